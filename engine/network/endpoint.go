package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/getberth/berth/engine/network/ipam"
)

// Connect plugs a sandbox into a network. Connecting what is connected returns the endpoint that is there. A container in
// the host's namespace (network "host") needs no sandbox.
func (s *Service) Connect(ctx context.Context, containerID, networkRef string, want *network.EndpointSettings, names []string) (*network.EndpointSettings, error) {
	if err := s.Raise(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	n, err := s.find(networkRef)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkContainerID(containerID), n.checkWanted(want)); err != nil {
		return nil, err
	}
	sb := s.enter(containerID, n.rec.Driver == driverHost)
	if sb == nil {
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("container %s has no network namespace", shortID(containerID)))
	}
	defer sb.mu.Unlock()
	if ep := sb.in(n); ep != nil {
		return n.settings(ep), nil
	}
	ep, err := s.attach(ctx, sb, n, want, names)
	if err != nil {
		return nil, err
	}
	if err := s.establish(sb, n, ep); err != nil {
		err = errors.Join(needsRight(err), s.unplug(sb, ep))
		s.release(sb, ep, false)
		return nil, errors.Join(fmt.Errorf("connecting container %s to network %s: %w", shortID(containerID), n.rec.Name, err), s.save(sb))
	}
	s.publish(n, "connect", containerID)
	return n.settings(ep), nil
}

// in returns the sandbox's endpoint in a network, or nil.
func (sb *sandbox) in(n *bridgeNetwork) *endpointRecord {
	i := slices.IndexFunc(sb.endpoints, func(ep *endpointRecord) bool { return ep.Network == n.rec.ID })
	if i < 0 {
		return nil
	}
	return sb.endpoints[i]
}

// attach notes an endpoint: from here on its network stays, and its address is its own. It needs sb.mu.
func (s *Service) attach(ctx context.Context, sb *sandbox, n *bridgeNetwork, want *network.EndpointSettings, names []string) (*endpointRecord, error) {
	ep := &endpointRecord{
		ID: randomID(), Network: n.rec.ID, Names: unique(names), Wanted: wanted(want), Container: sb.rec.Container,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.gone {
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", n.rec.Name))
	}
	ep.Serial = s.lastSerial(0)
	if n.isBridge() {
		if err := s.assign(ctx, sb, n, ep); err != nil {
			return nil, err
		}
	}
	n.endpoints[sb.rec.Container] = ep
	sb.endpoints = append(sb.endpoints, ep)
	return ep, nil
}

// wanted keeps of a client's settings what it asked for.
func wanted(want *network.EndpointSettings) *network.EndpointSettings {
	if want == nil {
		return nil
	}
	return &network.EndpointSettings{
		IPAMConfig: want.IPAMConfig.Copy(), Links: slices.Clone(want.Links), Aliases: slices.Clone(want.Aliases),
		DriverOpts: cloneOptions(want.DriverOpts), GwPriority: want.GwPriority, MacAddress: slices.Clone(want.MacAddress),
	}
}

func cloneOptions(m map[string]string) map[string]string {
	if m == nil {
		return nil
	}
	return cloneStrings(m)
}

func unique(names []string) []string {
	var result []string
	for _, name := range names {
		if name = strings.TrimPrefix(name, "/"); name != "" && !slices.Contains(result, name) {
			result = append(result, name)
		}
	}
	return result
}

// assign chooses an endpoint's names and addresses. It needs Service.mu.
func (s *Service) assign(ctx context.Context, sb *sandbox, n *bridgeNetwork, ep *endpointRecord) error {
	address, err := s.takeIP(ctx, sb.rec.Container, n, ep.wantedIP())
	if err != nil {
		return err
	}
	ep.Address = netip.PrefixFrom(address, n.rec.Subnet.Bits())
	if !n.rec.Internal {
		ep.Gateway = n.rec.Gateway
	}
	ep.HostLink = hostLink(ep.ID)
	ep.Link = sb.freeLink(n.options.linkPrefix)
	ep.MAC = addressMAC(address)
	if ep.Wanted != nil {
		if ifname := ep.Wanted.DriverOpts[optEndpointIfname]; ifname != "" {
			ep.Link = ifname
		}
		if len(ep.Wanted.MacAddress) > 0 {
			ep.MAC = ep.Wanted.MacAddress
		}
	}
	return nil
}

func (ep *endpointRecord) wantedIP() netip.Addr {
	if ep.Wanted == nil || ep.Wanted.IPAMConfig == nil {
		return netip.Addr{}
	}
	return ep.Wanted.IPAMConfig.IPv4Address.Unmap()
}

func addressError(err error) error {
	switch {
	case errors.Is(err, ipam.ErrInUse):
		return errdefs.ErrPermissionDenied.WithMessage("Address already in use")
	case errors.Is(err, ipam.ErrOutOfRange):
		return errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	return errdefs.ErrUnavailable.WithMessage(err.Error())
}

// freeLink is the first of prefix0, prefix1, … that the sandbox does not have.
func (sb *sandbox) freeLink(prefix string) string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("%s%d", prefix, i)
		if !slices.ContainsFunc(sb.endpoints, func(ep *endpointRecord) bool { return ep.Link == name }) {
			return name
		}
	}
}

// establish makes what an endpoint's note says. It needs sb.mu.
func (s *Service) establish(sb *sandbox, n *bridgeNetwork, ep *endpointRecord) error {
	if n.rec.Driver != driverHost && sb.rec.Path == "" {
		return errdefs.ErrInvalidArgument.WithMessage("container has the host's network and cannot be connected to another")
	}
	if err := s.save(sb); err != nil {
		return err
	}
	if !n.isBridge() {
		return nil
	}
	gateway := s.gatewayOf(sb) == ep
	if err := s.plug(sb, n, ep, gateway); err != nil {
		return err
	}
	if gateway {
		sb.gateway = ep.ID
		if err := s.retarget(sb); err != nil {
			return err
		}
	}
	return s.ensureResolver(sb)
}

// Disconnect unplugs a sandbox from a network. Disconnecting what is not connected is no error.
func (s *Service) Disconnect(ctx context.Context, containerID, networkRef string, force bool) error {
	if err := s.Raise(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	n, err := s.find(networkRef)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	sb := s.enter(containerID, false)
	if sb == nil {
		return nil
	}
	defer sb.mu.Unlock()
	ep := sb.in(n)
	if ep == nil {
		return nil
	}
	if err := s.unplug(sb, ep); err != nil {
		return fmt.Errorf("disconnecting container %s from network %s: %w", shortID(containerID), n.rec.Name, err)
	}
	s.detach(sb, ep, false)
	return errors.Join(s.reroute(sb), s.ensureResolver(sb), s.save(sb))
}

// detach gives back an endpoint's address and name, and tells so. leaving says that its link is still to go, and the address
// with it. It needs sb.mu.
func (s *Service) detach(sb *sandbox, ep *endpointRecord, leaving bool) {
	if n := s.release(sb, ep, leaving); n != nil {
		s.publish(n, "disconnect", sb.rec.Container)
	}
}

// release takes an endpoint out of the notes. It needs sb.mu.
func (s *Service) release(sb *sandbox, ep *endpointRecord, leaving bool) *bridgeNetwork {
	s.mu.Lock()
	defer s.mu.Unlock()
	sb.endpoints = slices.DeleteFunc(slices.Clone(sb.endpoints), func(e *endpointRecord) bool { return e == ep })
	n := s.networks[ep.Network]
	if n == nil {
		return nil
	}
	delete(n.endpoints, sb.rec.Container)
	if n.pool == nil {
		return n
	}
	s.lastIP.put(n.rec.ID, sb.rec.Container, ep.Address.Addr())
	if leaving {
		s.leave(ep)
	} else {
		n.pool.Release(ep.Address.Addr())
	}
	return n
}

// Rename changes a container's name in its networks.
func (s *Service) Rename(ctx context.Context, containerID, from, to string) error {
	sb := s.enter(containerID, false)
	if sb == nil {
		return nil
	}
	defer sb.mu.Unlock()
	s.mu.Lock()
	for _, ep := range sb.endpoints {
		names := slices.Clone(ep.Names)
		for i, name := range names {
			if name == from {
				names[i] = to
			}
		}
		ep.Names = unique(names)
	}
	s.mu.Unlock()
	return s.save(sb)
}

// checkWanted refuses endpoint settings that the network cannot fulfil.
func (n *bridgeNetwork) checkWanted(want *network.EndpointSettings) error {
	if want == nil {
		return nil
	}
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if c := want.IPAMConfig; c != nil {
		if a := c.IPv4Address.Unmap(); a.IsValid() {
			switch {
			case !n.hasNames():
				bad("user-specified IP address is supported on user-defined networks only")
			case !a.Is4() || a.IsUnspecified():
				bad("invalid IPv4 address: %s", a)
			case !n.rec.Subnet.Contains(a):
				bad("no configured subnet contains IP address %s", a)
			}
		}
		if c.IPv6Address.IsValid() {
			bad("no configured subnet contains IP address %s", c.IPv6Address)
		}
		if len(c.LinkLocalIPs) > 0 {
			bad("link-local addresses are not supported")
		}
	}
	if len(want.Aliases) > 0 && !n.hasNames() {
		bad("network-scoped aliases are only supported for user-defined networks")
	}
	for _, name := range sortedKeys(want.DriverOpts) {
		if name != optEndpointIfname {
			bad("endpoint option %q is not supported", name)
		} else if err := checkLinkName(want.DriverOpts[name]); err != nil {
			errs = append(errs, err)
		}
	}
	if mac := net.HardwareAddr(want.MacAddress); len(mac) > 0 && (len(mac) != 6 || mac[0]&1 != 0) {
		bad("invalid MAC address %s: it is no unicast address of 6 bytes", mac)
	}
	if len(errs) == 0 {
		return nil
	}
	return errdefs.ErrInvalidArgument.WithMessage("invalid endpoint settings:\n" + errors.Join(errs...).Error())
}
