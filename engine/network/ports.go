package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/engine/network/firewall"
	"github.com/getberth/berth/engine/network/proxy"
)

// binding is a published port. Its proxy holds the port, and carries what the firewall's NAT does not.
type binding struct {
	portRecord
	proxy proxy.Proxy // nil until it is open
}

func (b *binding) close() error {
	if b.proxy == nil {
		return nil
	}
	return b.proxy.Close()
}

// portSet is all that is published.
type portSet struct {
	mu      sync.Mutex // guards all below; held while changed is called, so that calls are in order
	all     map[*binding]struct{}
	changed func([]config.Port)
}

// Publish opens ports of the host for a container, in place of those opened before. Without a network that leads out, it
// opens none; it can be called again after Connect. After an error, nothing is published for the container.
func (s *Service) Publish(ctx context.Context, containerID string, want network.PortMap) (network.PortMap, error) {
	if err := s.Raise(ctx); err != nil {
		return nil, err
	}
	sb := s.enter(containerID, false)
	if sb == nil {
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("container %s has no network namespace", shortID(containerID)))
	}
	defer sb.mu.Unlock()
	if err := s.unpublish(sb); err != nil {
		return nil, err
	}
	ep := s.gatewayOf(sb)
	if ep == nil || len(want) == 0 {
		return network.PortMap{}, s.save(sb)
	}
	if err := s.publishAll(sb, ep, want); err != nil {
		err = errors.Join(err, s.unpublish(sb), s.save(sb))
		return nil, fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): %w", ep.name(), ep.ID, err)
	}
	return sb.portMap(), nil
}

func (s *Service) publishAll(sb *sandbox, ep *endpointRecord, want network.PortMap) error {
	requests, err := s.portRequests(ep, want)
	if err != nil {
		return err
	}
	for _, r := range requests {
		opened, err := s.ports.open(r)
		if err != nil {
			return err
		}
		sb.bindings = append(sb.bindings, opened...)
	}
	if err := s.save(sb); err != nil {
		return err
	}
	if err := s.retarget(sb); err != nil {
		return err
	}
	s.ports.add(sb.bindings)
	return nil
}

// portRequest asks for one port on one or two addresses.
type portRequest struct {
	proto       network.IPProtocol
	container   uint16
	addrs       []netip.Addr
	first, last uint16 // of the host; 0 means any
}

// portRequests reads what is wanted, those first that leave no choice, so that no other takes their port.
func (s *Service) portRequests(ep *endpointRecord, want network.PortMap) ([]portRequest, error) {
	anywhere := []netip.Addr{netip.IPv4Unspecified()}
	if n := s.networkByID(ep.Network); n != nil && n.options.hostBinding.IsValid() {
		anywhere[0] = n.options.hostBinding
	} else if hasIPv6() && enabled(s.cfg.UserlandProxy) {
		anywhere = append(anywhere, netip.IPv6Unspecified())
	}
	var all []portRequest
	for port, bindings := range want {
		if port.Proto() != network.TCP && port.Proto() != network.UDP {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("publishing %s: the protocol is not supported", port))
		}
		for _, b := range bindings {
			r := portRequest{proto: port.Proto(), container: port.Num(), addrs: anywhere}
			if b.HostIP.IsValid() {
				r.addrs = []netip.Addr{b.HostIP.Unmap().WithZone("")}
			}
			var err error
			if r.first, r.last, err = parseHostPort(b.HostPort); err != nil {
				return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("publishing %s: %v", port, err))
			}
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, func(a, b portRequest) int {
		return cmp.Or(cmp.Compare(a.choices(), b.choices()), cmp.Compare(a.container, b.container), cmp.Compare(a.proto, b.proto))
	})
	return all, nil
}

func (r portRequest) choices() int {
	if r.first == 0 {
		return 1 << 16
	}
	return int(r.last) - int(r.first)
}

// parseHostPort reads "", "0", "8080" or "8000-8010".
func parseHostPort(text string) (first, last uint16, err error) {
	if text == "" || text == "0" {
		return 0, 0, nil
	}
	r, err := network.ParsePortRange(text)
	if err != nil || strings.Contains(text, "/") || r.Start() == 0 {
		return 0, 0, fmt.Errorf("invalid host port %q", text)
	}
	return r.Start(), r.End(), nil
}

// open takes the first port of a request that is free on all its addresses.
func (p *portSet) open(r portRequest) ([]*binding, error) {
	first, last := r.first, r.last
	if first == 0 {
		first, last = ephemeralPorts()
	}
	var err error
	for port := uint32(first); port <= uint32(last); port++ {
		var opened []*binding
		if opened, err = r.openAt(uint16(port)); err == nil {
			return opened, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return nil, p.explain(r, err)
}

func (r portRequest) openAt(port uint16) ([]*binding, error) {
	var opened []*binding
	for i, addr := range r.addrs {
		b := &binding{portRecord: portRecord{Proto: r.proto, HostIP: addr, HostPort: port, ContainerPort: r.container}}
		err := b.listen()
		if err != nil && i > 0 && isNoIPv6(err) {
			break // IPv6 was not asked for by name
		}
		if err != nil {
			for _, o := range opened {
				err = errors.Join(err, o.close())
			}
			return nil, &portError{addr: addr, port: port, err: err}
		}
		opened = append(opened, b)
	}
	return opened, nil
}

func isNoIPv6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// listen takes the port.
func (b *binding) listen() (err error) {
	at := netip.AddrPortFrom(b.HostIP, b.HostPort)
	if b.Proto == network.TCP {
		b.proxy, err = proxy.ListenTCP(at)
	} else {
		b.proxy, err = proxy.ListenUDP(at)
	}
	if err != nil {
		b.proxy = nil
	}
	return err
}

// portError is a port that could not be taken.
type portError struct {
	addr netip.Addr
	port uint16
	err  error
}

func (e *portError) Error() string { return e.err.Error() }
func (e *portError) Unwrap() error { return e.err }

// explain words an error as Docker does, which tells ports that containers have from those of other programs.
func (p *portSet) explain(r portRequest, err error) error {
	var e *portError
	if !errors.As(err, &e) {
		return err
	}
	at := netip.AddrPortFrom(e.addr, e.port)
	switch {
	case errors.Is(err, unix.EADDRINUSE) && r.first == 0:
		return errdefs.ErrUnavailable.WithMessage("all ports are allocated")
	case errors.Is(err, unix.EADDRINUSE) && p.has(r.proto, at):
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("Bind for %s failed: port is already allocated", at))
	}
	text := fmt.Sprintf("failed to bind host port %s/%s: %v", at, r.proto, rootCause(err))
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return errdefs.ErrConflict.WithMessage(text)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return errdefs.ErrInvalidArgument.WithMessage(text)
	}
	return fmt.Errorf("failed to bind host port %s/%s: %w", at, r.proto, err)
}

func rootCause(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// has reports whether a container has a port, or one that excludes it.
func (p *portSet) has(proto network.IPProtocol, at netip.AddrPort) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for b := range p.all {
		if b.Proto == proto && b.HostPort == at.Port() && b.HostIP.Is4() == at.Addr().Is4() &&
			(b.HostIP == at.Addr() || b.HostIP.IsUnspecified() || at.Addr().IsUnspecified()) {
			return true
		}
	}
	return false
}

func (p *portSet) add(bindings []*binding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range bindings {
		p.all[b] = struct{}{}
	}
	p.tell(len(bindings))
}

func (p *portSet) remove(bindings []*binding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.all)
	for _, b := range bindings {
		delete(p.all, b)
	}
	p.tell(before - len(p.all))
}

// tell needs p.mu.
func (p *portSet) tell(changes int) {
	if p.changed == nil || changes == 0 {
		return
	}
	ports := make([]config.Port, 0, len(p.all))
	for b := range p.all {
		ports = append(ports, config.Port{Proto: string(b.Proto), IP: b.HostIP.String(), Port: b.HostPort})
	}
	slices.SortFunc(ports, func(a, b config.Port) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.IP, b.IP))
	})
	p.changed(ports)
}

// portMap is what inspect shows.
func (sb *sandbox) portMap() network.PortMap {
	result := network.PortMap{}
	for _, b := range sb.bindings {
		port, _ := network.PortFrom(b.ContainerPort, b.Proto)
		result[port] = append(result[port], network.PortBinding{HostIP: b.HostIP, HostPort: fmt.Sprint(b.HostPort)})
	}
	return result
}

// targets is what the firewall is told of a sandbox's ports. It needs sb.mu, or that nobody else knows the service yet.
func (s *Service) targets(sb *sandbox) map[firewall.Port]netip.AddrPort {
	result := map[firewall.Port]netip.AddrPort{}
	to := sb.gatewayAddr()
	if !to.IsValid() || s.noForward {
		return result
	}
	for _, b := range sb.bindings {
		if b.HostIP.Is4() {
			result[b.key()] = netip.AddrPortFrom(to, b.ContainerPort)
		}
	}
	return result
}

func (sb *sandbox) gatewayAddr() netip.Addr {
	for _, ep := range sb.endpoints {
		if ep.ID == sb.gateway {
			return ep.Address.Addr()
		}
	}
	return netip.Addr{}
}

func (b *binding) key() firewall.Port {
	return firewall.Port{Proto: ipProto(b.Proto), IP: b.HostIP, Port: b.HostPort}
}

func ipProto(p network.IPProtocol) uint8 {
	if p == network.UDP {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

// retarget sends a sandbox's ports to the address that its gateway has now. It needs sb.mu.
func (s *Service) retarget(sb *sandbox) error {
	if len(sb.bindings) == 0 {
		return nil
	}
	to := sb.gatewayAddr()
	carry := enabled(s.cfg.UserlandProxy) || s.fw == nil || s.noForward
	for _, b := range sb.bindings {
		if b.proxy != nil && carry && to.IsValid() {
			b.proxy.SetTarget(netip.AddrPortFrom(to, b.ContainerPort))
		} else if b.proxy != nil {
			b.proxy.SetTarget(netip.AddrPort{})
		}
	}
	if s.fw == nil {
		return nil
	}
	if err := s.setHairpin(sb); err != nil {
		return err
	}
	targets := s.targets(sb)
	err := s.fw.Update(func(r *firewall.Rules) {
		for _, b := range sb.bindings {
			delete(r.Ports, b.key())
		}
		for port, target := range targets {
			r.Ports[port] = target
		}
	})
	s.forgetFlows(sb.bindings, to)
	return err
}

// setHairpin lets the gateway's bridge send a container's frames back to it: where br_netfilter is on, the kernel does not
// route but bridge what a container sends to a port that it publishes itself.
func (s *Service) setHairpin(sb *sandbox) error {
	for _, ep := range sb.endpoints {
		if ep.ID != sb.gateway {
			continue
		}
		link, err := s.link.LinkByName(ep.HostLink)
		if err == nil {
			err = s.link.LinkSetHairpin(link, true)
		}
		if err != nil {
			return fmt.Errorf("setting hairpin mode of %s: %w", ep.HostLink, err)
		}
	}
	return nil
}

// unpublish closes a sandbox's ports. It needs sb.mu.
func (s *Service) unpublish(sb *sandbox) error {
	if len(sb.bindings) == 0 {
		return nil
	}
	closed := sb.bindings
	if s.fw != nil {
		err := s.fw.Update(func(r *firewall.Rules) {
			for _, b := range closed {
				delete(r.Ports, b.key())
			}
		})
		if err != nil {
			return err
		}
	}
	sb.bindings = nil
	s.ports.remove(closed)
	var errs []error
	for _, b := range closed {
		errs = append(errs, b.close())
	}
	s.forgetFlows(closed, netip.Addr{})
	return errors.Join(errs...)
}
