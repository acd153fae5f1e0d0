package qemu

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gofrs/flock"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/qemu/lan"
)

// addresses is the document of a store that says which machine has which index. It is in the folder `qemu` of the store.
type addresses struct {
	Version int `json:"version"`
	// ID tells the networks of several stores on one computer apart. It stays when the store is moved.
	ID string `json:"id"`
	// Machines are the folders of machines, relative to the store, by index.
	Machines map[int]string `json:"machines"`
}

const addressesVersion = 1

// withAddresses runs f with a store's addresses, which no other process changes meanwhile, and writes them if f returns true.
func withAddresses(ctx context.Context, store string, f func(*addresses) (changed bool, err error)) error {
	dir := filepath.Join(store, "qemu")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	lock := flock.New(filepath.Join(dir, "addresses.lock"), flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, 10*time.Millisecond); err != nil {
		return fmt.Errorf("locking the machines' addresses in %s: %w", dir, err)
	}
	defer lock.Unlock()
	path := filepath.Join(dir, "addresses.json")
	a, err := readAddresses(path)
	if err != nil {
		return err
	}
	fresh := a.ID == ""
	if fresh {
		var b [4]byte
		rand.Read(b[:])
		a.ID = hex.EncodeToString(b[:])
	}
	changed, err := f(a)
	if err != nil || !changed && !fresh {
		return err
	}
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, append(b, '\n'))
}

func readAddresses(path string) (*addresses, error) {
	a := &addresses{Version: addressesVersion, Machines: map[int]string{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err == nil {
		err = json.Unmarshal(b, a)
	}
	if err == nil && a.Version > addressesVersion {
		err = fmt.Errorf("it has version %d, this berth knows %d", a.Version, addressesVersion)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the machines' addresses in %s: %w", path, err)
	}
	if a.Machines == nil {
		a.Machines = map[int]string{}
	}
	return a, nil
}

// owner is how a machine is written down.
func (d *Driver) owner(h *drivers.Host) (string, error) {
	rel, err := filepath.Rel(d.store(h), h.Dir)
	if err != nil {
		return "", fmt.Errorf("machine %q: its folder is not in the store: %w", h.Name, err)
	}
	return filepath.ToSlash(rel), nil
}

// assign finds an index and ports for a new machine, and saves its state before it writes the index down.
func (d *Driver) assign(ctx context.Context, h *drivers.Host, s *state) error {
	owner, err := d.owner(h)
	if err != nil {
		return err
	}
	return withAddresses(ctx, d.store(h), func(a *addresses) (bool, error) {
		if err := a.pick(s, d.store(h), owner); err != nil {
			return false, fmt.Errorf("machine %q: %w", h.Name, err)
		}
		if err := choosePorts(s); err != nil {
			return false, fmt.Errorf("machine %q: %w", h.Name, err)
		}
		if err := h.Record(s); err != nil {
			return false, err
		}
		a.Machines[s.Index] = owner
		return true, nil
	})
}

// pick gives s the index that it has, or that is written down for it, or else the first whose address on the host is free too.
func (a *addresses) pick(s *state, store, owner string) error {
	for i, o := range a.Machines {
		if o == owner {
			return a.use(s, i)
		}
	}
	if s.Index != 0 && a.free(s.Index, store) {
		return a.use(s, s.Index)
	}
	for i := lan.First; i <= lan.Last; i++ {
		if ip := hostAddress(a.ID, i); a.free(i, store) && !occupied(ip) {
			return a.use(s, i)
		}
	}
	return fmt.Errorf("all %d addresses of this store are in use", lan.Last-lan.First+1)
}

func (a *addresses) use(s *state, index int) error {
	s.Index, s.HostIP = index, hostAddress(a.ID, index).String()
	return nil
}

// free tells whether an index is nobody's. A machine whose folder is gone has lost it.
func (a *addresses) free(index int, store string) bool {
	owner, taken := a.Machines[index]
	if !taken {
		return true
	}
	_, err := os.Stat(filepath.Join(store, filepath.FromSlash(owner)))
	return errors.Is(err, fs.ErrNotExist)
}

// release gives a machine's index back.
func (d *Driver) release(ctx context.Context, h *drivers.Host) error {
	owner, err := d.owner(h)
	if err != nil {
		return err
	}
	return withAddresses(ctx, d.store(h), func(a *addresses) (changed bool, err error) {
		for i, o := range a.Machines {
			if o == owner {
				delete(a.Machines, i)
				changed = true
			}
		}
		return changed, nil
	})
}

// ports a machine would like to have; 0 is any.
func sshPorts(s *state) []uint16    { return append(wishes(s.SSHPort), ownSSHPorts(s.Index)...) }
func enginePorts(s *state) []uint16 { return append(wishes(s.EnginePort), ownEnginePorts(s.Index)...) }

func wishes(had uint16) []uint16 {
	if had == 0 {
		return nil
	}
	return []uint16{had}
}

// choosePorts gives a machine ports on the host that are free now, those that it had if they are.
func choosePorts(s *state) error {
	ip, err := netip.ParseAddr(s.HostIP)
	if err != nil {
		return err
	}
	if s.SSHPort, err = freePort(ip, sshPorts(s)); err == nil {
		s.EnginePort, err = freePort(ip, enginePorts(s))
	}
	return err
}

// freePort returns the first port that can be listened on.
func freePort(ip netip.Addr, wanted []uint16) (uint16, error) {
	var err error
	for _, p := range wanted {
		var l net.Listener
		if l, err = net.Listen("tcp4", netip.AddrPortFrom(ip, p).String()); err == nil {
			defer l.Close()
			return uint16(l.Addr().(*net.TCPAddr).Port), nil
		}
	}
	return 0, fmt.Errorf("finding a free port: %w", err)
}

// storeHash names a store by its path, in run folders outside of it.
func storeHash(store string) string {
	sum := sha256.Sum256([]byte(store))
	return hex.EncodeToString(sum[:4])
}

// idBytes are the two bytes by which addresses on the host differ between stores.
func idBytes(id string) (byte, byte) {
	n, _ := strconv.ParseUint(id, 16, 32)
	return byte(n >> 8), byte(n)
}
