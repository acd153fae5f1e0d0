//go:build linux

// Package vm boots the droplets of dosim: each a QEMU with an overlay on the Debian image of package debian, on networks in a
// namespace of their own that the host reaches through one link. It needs root, QEMU, qemu-img and nft. Nothing of it stays when
// the process ends, however it ends, but for a folder in the cache that the next one removes.
package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/getberth/berth/test/dosim"
	"github.com/getberth/berth/test/dosim/debian"
)

// Cloud is a set of droplets and their networks.
type Cloud struct {
	files     debian.Files
	kvm       bool
	maxMemory int // MiB
	net       *network
	dir       string // one folder for each droplet: disk and console
	lock      *flock.Flock

	mu       sync.Mutex // guards what follows
	machines map[int]*machine
	filter   filtering
	closed   bool
}

var _ dosim.Machines = (*Cloud)(nil)

// machine is a droplet that has a disk.
type machine struct {
	busy sync.Mutex // held by Start, PowerOff and Remove
	mu   sync.Mutex // guards run
	run  *running   // nil if off
}

// qemu is what runs a droplet.
const qemu = "qemu-system-x86_64"

var errClosed = errors.New("the cloud is closed")

// maxMemory is the most that a droplet is given, in MiB, whatever its size says: tests have many.
const maxMemory = 2048

// Open makes the networks, and the Debian image if there is none yet. Progress goes to log.
func Open(ctx context.Context, log io.Writer) (*Cloud, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("droplets that boot require root")
	}
	c := &Cloud{kvm: hasKVM(), maxMemory: maxMemory, machines: map[int]*machine{}, filter: filtering{cut: map[netip.Addr]time.Time{}}}
	var err error
	for _, p := range []string{qemu, "qemu-img", "nft"} {
		if _, err = exec.LookPath(p); err != nil {
			return nil, fmt.Errorf("%w\nhint: test/setup test", err)
		}
	}
	if c.files, err = debian.Image(ctx, log); err != nil {
		return nil, err
	}
	if err := c.makeDir(); err != nil {
		return nil, err
	}
	if c.net, err = newNetwork(); err != nil {
		return nil, errors.Join(err, c.removeDir())
	}
	return c, nil
}

// makeDir makes the run's folder, and removes those of runs that died.
func (c *Cloud) makeDir() error {
	cache, err := debian.Cache()
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(cache, "run-*.lock"))
	if err != nil {
		return err
	}
	for _, name := range old {
		l := flock.New(name)
		if free, err := l.TryLock(); err == nil && free {
			_ = os.RemoveAll(strings.TrimSuffix(name, ".lock"))
			_ = os.Remove(name)
		}
		l.Close()
	}
	c.dir = filepath.Join(cache, "run-"+strconv.Itoa(os.Getpid())+"-"+strconv.FormatInt(time.Now().UnixNano(), 36))
	c.lock = flock.New(c.dir + ".lock")
	if _, err := c.lock.TryLock(); err != nil {
		return err
	}
	return os.Mkdir(c.dir, 0o700)
}

func (c *Cloud) removeDir() error {
	return errors.Join(os.RemoveAll(c.dir), os.Remove(c.lock.Path()), c.lock.Close())
}

// Public is the network of the droplets' public addresses.
func (c *Cloud) Public() netip.Prefix { return c.net.public }

// Host is the address that the host has on it.
func (c *Cloud) Host() netip.Addr {
	a := c.net.public.Addr().As4()
	a[3] = 254
	return netip.AddrFrom4(a)
}

// Console returns what a droplet's kernel and systemd have printed.
func (c *Cloud) Console(id int) string {
	b, _ := os.ReadFile(filepath.Join(c.folder(id), "console.log"))
	return string(b)
}

func (c *Cloud) folder(id int) string { return filepath.Join(c.dir, strconv.Itoa(id)) }

// machine returns a droplet's, made if need be.
func (c *Cloud) machine(id int, make bool) (*machine, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.machines[id]
	switch {
	case c.closed:
		return nil, errClosed
	case m == nil && !make:
		return nil, fmt.Errorf("droplet %d has no machine", id)
	case m == nil:
		m = &machine{}
		c.machines[id] = m
	}
	return m, nil
}

// Start turns a droplet on.
func (c *Cloud) Start(ctx context.Context, spec dosim.Machine) (<-chan struct{}, error) {
	m, err := c.machine(spec.ID, true)
	if err != nil {
		return nil, err
	}
	m.busy.Lock()
	defer m.busy.Unlock()
	if m.running() != nil {
		return nil, fmt.Errorf("droplet %d is on", spec.ID)
	}
	disk := filepath.Join(c.folder(spec.ID), "disk.qcow2")
	if err := c.makeDisk(ctx, disk, spec.Snapshot); err != nil {
		return nil, fmt.Errorf("droplet %d: its disk: %w", spec.ID, err)
	}
	r, err := c.launch(ctx, spec, disk)
	if err != nil {
		return nil, fmt.Errorf("droplet %d: starting QEMU: %w", spec.ID, err)
	}
	m.set(r)
	server := &http.Server{Handler: spec.Metadata, ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(r.metadata)
	}()
	go func() {
		_ = r.cmd.Wait()
		r.monitor.Close()
		_ = server.Close()
		<-served
		m.set(nil)
		close(r.off)
	}()
	return r.off, nil
}

func (m *machine) running() *running {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.run
}

func (m *machine) set(r *running) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.run = r
}

// makeDisk puts an overlay on the image, or copies the one of a snapshot, unless there is one: the droplet has been on before.
func (c *Cloud) makeDisk(ctx context.Context, disk string, snapshot int) error {
	if _, err := os.Stat(disk); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(disk), 0o700); err != nil {
		return err
	}
	if snapshot != 0 {
		return copyFile(c.snapshot(snapshot), disk)
	}
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", c.files.Disk, disk).CombinedOutput()
	if err != nil {
		return fmt.Errorf("qemu-img: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// on returns the QEMU of a droplet that is on.
func (c *Cloud) on(id int) (*running, error) {
	m, err := c.machine(id, false)
	if err != nil {
		return nil, err
	}
	if r := m.running(); r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("droplet %d is off", id)
}

// Shutdown presses the power button and waits.
func (c *Cloud) Shutdown(ctx context.Context, id int) error {
	r, err := c.on(id)
	if err != nil {
		return err
	}
	if err := r.monitor.Run(ctx, "system_powerdown", nil, nil); err != nil {
		return fmt.Errorf("droplet %d: %w", id, err)
	}
	select {
	case <-r.off:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("droplet %d: waiting until it is off: %w", id, ctx.Err())
	}
}

// Reset restarts a droplet without asking it.
func (c *Cloud) Reset(id int) error {
	r, err := c.on(id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return r.monitor.Run(ctx, "system_reset", nil, nil)
}

// PowerOff ends a droplet's QEMU.
func (c *Cloud) PowerOff(id int) error {
	m, err := c.machine(id, false)
	if err != nil {
		return nil
	}
	m.busy.Lock()
	defer m.busy.Unlock()
	m.kill()
	return nil
}

func (m *machine) kill() {
	if r := m.running(); r != nil {
		_ = r.cmd.Process.Kill() // it may have ended by itself
		<-r.off
	}
}

// Remove ends a droplet and removes its disk.
func (c *Cloud) Remove(id int) error {
	m, err := c.machine(id, false)
	if err != nil {
		return nil
	}
	m.busy.Lock()
	defer m.busy.Unlock()
	m.kill()
	c.mu.Lock()
	delete(c.machines, id)
	c.mu.Unlock()
	return os.RemoveAll(c.folder(id))
}

// Protect replaces what firewalls let through, and reserved IPs.
func (c *Cloud) Protect(p []dosim.Policy, reserved map[netip.Addr]netip.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filter.policies, c.filter.reserved = p, reserved
	return c.applyLocked()
}

// ResetSSH cuts a droplet's SSH off for d: what is open is lost, what is new is refused.
func (c *Cloud) ResetSSH(address netip.Addr, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.filter.cut[address] = time.Now().Add(d)
	time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = c.applyLocked()
	})
	if err := c.applyLocked(); err != nil {
		return err
	}
	return c.net.forgetSSH(address)
}

func (c *Cloud) applyLocked() error {
	if c.closed {
		return nil
	}
	return c.net.apply(&c.filter)
}

// Close ends all droplets and removes everything.
func (c *Cloud) Close() error {
	c.mu.Lock()
	c.closed = true
	machines := c.machines
	c.machines = nil
	c.mu.Unlock()
	for _, m := range machines {
		m.busy.Lock()
		m.kill()
		m.busy.Unlock()
	}
	return errors.Join(c.net.close(), c.removeDir())
}

// Link is what the host's end of the network is called.
func (c *Cloud) Link() string { return c.net.host.Attrs().Name }
