package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/network/nameserver"
)

// sandbox is a container's network: a namespace, or nothing but notes for one in the host's.
type sandbox struct {
	// mu is held through whatever is done for the container, and guards the fields.
	mu       sync.Mutex
	gone     bool
	rec      sandboxRecord // its Endpoints and Ports are written from the fields below
	gateway  string        // id of the endpoint that the default route goes through
	bindings []*binding
	resolver *nameserver.Server // nil when there is none

	// endpoints is written with both mu and Service.mu held, so that either suffices to read it. What it points to is
	// constant but for Names.
	endpoints []*endpointRecord
}

// CreateSandbox makes the network namespace of a container, loopback up.
func (s *Service) CreateSandbox(ctx context.Context, containerID string) (path string, err error) {
	if err := s.Raise(ctx); err != nil {
		return "", err
	}
	if err := checkContainerID(containerID); err != nil {
		return "", errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	sb := s.enter(containerID, true)
	defer sb.mu.Unlock()
	if sb.rec.Path != "" && isNamespace(sb.rec.Path) {
		return sb.rec.Path, nil
	}
	if err := s.makeSandbox(sb); err != nil {
		return "", fmt.Errorf("making the network namespace of container %s: %w", shortID(containerID), err)
	}
	return sb.rec.Path, nil
}

// enter locks the sandbox of a container, made if asked for. Otherwise it returns nil when there is none.
func (s *Service) enter(containerID string, make bool) *sandbox {
	for {
		s.mu.Lock()
		sb, ok := s.sandboxes[containerID]
		if !ok && make {
			sb = &sandbox{rec: sandboxRecord{Version: recordVersion, Container: containerID}}
			s.sandboxes[containerID] = sb
		}
		s.mu.Unlock()
		if sb == nil {
			return nil
		}
		sb.mu.Lock()
		if !sb.gone {
			return sb
		}
		sb.mu.Unlock() // deleted while waiting for it
	}
}

func (s *Service) makeSandbox(sb *sandbox) error {
	path := s.namespacePath(sb.rec.Container)
	sb.rec.Path = path
	err := s.save(sb)
	if err == nil {
		err = makeNamespace(path, prepareNamespace)
	}
	if err == nil {
		return nil
	}
	sb.rec.Path = ""
	err = errors.Join(needsRight(err), removeNamespace(path))
	if len(sb.endpoints) == 0 {
		err = errors.Join(err, s.forget(sb))
	}
	return err
}

// namespacePath is short, as Docker's: clients show it.
func (s *Service) namespacePath(containerID string) string {
	path := filepath.Join(s.netnsDir(), shortID(containerID))
	if isNamespace(path) { // another container's
		path = filepath.Join(s.netnsDir(), containerID)
	}
	return path
}

// prepareNamespace runs in a new namespace.
func prepareNamespace() error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	const loopback = 1 // the index of lo in every namespace
	if err := h.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: loopback}}); err != nil {
		return fmt.Errorf("setting lo up: %w", err)
	}
	// Links to come announce their address (arp_notify), and have no IPv6 unless their network has. Without the right to
	// write sysctls (a read-only /proc/sys), neighbours learn later, and IPv6 stays link-local.
	return ignoreReadOnly(errors.Join(setSysctl("1", "ipv4", "conf", "default", "arp_notify"), disableIPv6("default", true)))
}

func ignoreReadOnly(err error) error {
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

// save writes the sandbox's document. It needs sb.mu.
func (s *Service) save(sb *sandbox) error {
	sb.rec.Endpoints = sb.rec.Endpoints[:0]
	for _, ep := range sb.endpoints {
		sb.rec.Endpoints = append(sb.rec.Endpoints, *ep)
	}
	sb.rec.Ports = sb.rec.Ports[:0]
	for _, b := range sb.bindings {
		sb.rec.Ports = append(sb.rec.Ports, b.portRecord)
	}
	return writeRecord(s.sandboxPath(sb.rec.Container), sb.rec)
}

func (s *Service) sandboxPath(containerID string) string {
	return filepath.Join(s.sandboxesDir(), containerID+recordSuffix)
}

// forget ends a sandbox of which nothing is left but the document. It needs sb.mu.
func (s *Service) forget(sb *sandbox) error {
	if err := removeRecord(s.sandboxPath(sb.rec.Container)); err != nil {
		return err
	}
	sb.gone = true
	s.mu.Lock()
	delete(s.sandboxes, sb.rec.Container)
	s.mu.Unlock()
	return nil
}

// DeleteSandbox unpublishes, disconnects and removes the namespace. No error when there is none. After an error it can be
// called again for what is left.
func (s *Service) DeleteSandbox(ctx context.Context, containerID string) error {
	if err := s.Raise(ctx); err != nil {
		return err
	}
	sb := s.enter(containerID, false)
	if sb == nil {
		return nil
	}
	defer sb.mu.Unlock()
	if err := s.clear(sb); err != nil {
		return fmt.Errorf("removing the network of container %s: %w", shortID(containerID), err)
	}
	return nil
}

// clear needs sb.mu.
func (s *Service) clear(sb *sandbox) error {
	if err := errors.Join(s.unpublish(sb), sb.stopResolver()); err != nil {
		return err
	}
	var links []string
	for _, ep := range slices.Clone(sb.endpoints) {
		s.detach(sb, ep, true)
		if ep.HostLink != "" {
			links = append(links, ep.HostLink)
		}
	}
	if sb.rec.Path != "" {
		if err := removeNamespace(sb.rec.Path); err != nil {
			return err
		}
	}
	s.checkLeft(links...)
	return s.forget(sb)
}

// loadSandboxes reads the documents that a former run of the engine left. A damaged one is dropped, with its namespace, as
// Recover will find that it belongs to nobody.
func (s *Service) loadSandboxes(ctx context.Context) error {
	ids, err := recordNames(s.sandboxesDir())
	if err != nil {
		return err
	}
	for _, id := range ids {
		var rec sandboxRecord
		err := readRecord(s.sandboxPath(id), &rec)
		if err == nil && rec.Container != id {
			err = fmt.Errorf("it is about %s", rec.Container)
		}
		if err != nil {
			s.warn(ctx, fmt.Errorf("reading the network of container %s: %w", id, err))
			continue
		}
		s.sandboxes[id] = s.revive(ctx, rec)
	}
	s.seekPools()
	return nil
}

// revive makes the live object of a document. Its ports are opened and its names are served after Recover.
func (s *Service) revive(ctx context.Context, rec sandboxRecord) *sandbox {
	sb := &sandbox{rec: rec}
	for _, ep := range rec.Endpoints {
		ep.Container = rec.Container
		n, ok := s.networks[ep.Network]
		if !ok {
			s.warn(ctx, fmt.Errorf("container %s was in network %s, which is gone", shortID(rec.Container), ep.Network))
			continue
		}
		if n.pool != nil {
			if err := n.pool.Reserve(ep.Address.Addr()); err != nil {
				s.warn(ctx, fmt.Errorf("address %s of container %s: %w", ep.Address, shortID(rec.Container), err))
			}
		}
		s.lastSerial(ep.Serial)
		n.endpoints[rec.Container] = &ep
		sb.endpoints = append(sb.endpoints, &ep)
	}
	for _, p := range rec.Ports {
		sb.bindings = append(sb.bindings, &binding{portRecord: p})
	}
	if ep := s.gatewayOf(sb); ep != nil {
		sb.gateway = ep.ID
	}
	return sb
}

// seekPools makes each network go on after the address that it gave out last.
func (s *Service) seekPools() {
	for _, n := range s.networks {
		if n.pool == nil || len(n.endpoints) == 0 {
			continue
		}
		last := slices.MaxFunc(slices.Collect(maps.Values(n.endpoints)), func(a, b *endpointRecord) int {
			return int(int64(a.Serial - b.Serial))
		})
		n.pool.Seek(last.Address.Addr())
	}
}

// settings is what inspect shows of an endpoint.
func (n *bridgeNetwork) settings(ep *endpointRecord) *network.EndpointSettings {
	result := ep.Wanted.Copy()
	if result == nil {
		result = &network.EndpointSettings{}
	}
	result.NetworkID, result.EndpointID = n.rec.ID, ep.ID
	result.MacAddress = ep.MAC
	if ep.Address.IsValid() {
		result.IPAddress, result.IPPrefixLen, result.Gateway = ep.Address.Addr(), ep.Address.Bits(), ep.Gateway
	}
	if n.hasNames() {
		result.DNSNames = slices.Clone(ep.Names)
	}
	return result
}
