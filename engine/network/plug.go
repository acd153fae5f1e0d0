package network

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// plug makes the pair of links between a bridge and a namespace. It needs sb.mu.
func (s *Service) plug(sb *sandbox, n *bridgeNetwork, ep *endpointRecord, gateway bool) error {
	bridge, err := s.link.LinkByName(n.rec.Bridge)
	if isNoLink(err) { // somebody removed it
		if err = s.ensureBridge(n); err == nil {
			bridge, err = s.link.LinkByName(n.rec.Bridge)
		}
	}
	if err != nil {
		return fmt.Errorf("bridge %s: %w", n.rec.Bridge, err)
	}
	link, err := s.makePair(sb, n, ep, bridge)
	if err != nil {
		return err
	}
	if err := inNamespace(sb.rec.Path, func() error { return ep.configure(gateway) }); err != nil {
		return err
	}
	if err := disableIPv6(ep.HostLink, true); err != nil {
		s.noteSysctl(n, err)
	}
	if n.options.isolated {
		if err := s.link.LinkSetIsolated(link, true); err != nil {
			return fmt.Errorf("isolating %s: %w", ep.HostLink, err)
		}
	}
	if err := s.link.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting %s up: %w", ep.HostLink, err)
	}
	return nil
}

// makePair makes both ends where they belong, the container's directly in its namespace.
func (s *Service) makePair(sb *sandbox, n *bridgeNetwork, ep *endpointRecord, bridge netlink.Link) (netlink.Link, error) {
	ns, err := os.Open(sb.rec.Path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = ep.HostLink, n.options.mtu, bridge.Attrs().Index
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerMTU = ep.Link, uint32(n.options.mtu)
	pair.PeerHardwareAddr = net.HardwareAddr(ep.MAC)
	pair.PeerNamespace = netlink.NsFd(ns.Fd())
	err = s.link.LinkAdd(pair)
	if errors.Is(err, unix.EEXIST) { // as Docker words it, which makes the link first and then gives it its name
		return nil, fmt.Errorf("error renaming interface %s to %s: %w", ep.HostLink, ep.Link, err)
	}
	if err != nil {
		return nil, fmt.Errorf("making links %s and %s: %w", ep.HostLink, ep.Link, err)
	}
	return pair, nil
}

// configure runs in the container's namespace.
func (ep *endpointRecord) configure(gateway bool) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(ep.Link)
	if err != nil {
		return fmt.Errorf("link %s: %w", ep.Link, err)
	}
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(ep.Address)}); err != nil {
		return fmt.Errorf("setting address %s: %w", ep.Address, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting %s up: %w", ep.Link, err)
	}
	if !gateway {
		return nil
	}
	return setDefaultRoute(h, link, ep)
}

func setDefaultRoute(h *netlink.Handle, link netlink.Link, ep *endpointRecord) error {
	route := netlink.Route{LinkIndex: link.Attrs().Index, Gw: ep.Gateway.AsSlice()}
	if err := h.RouteReplace(&route); err != nil {
		return fmt.Errorf("setting the default route via %s: %w", ep.Gateway, err)
	}
	return nil
}

// unplug removes an endpoint's links. No error when there are none.
func (s *Service) unplug(sb *sandbox, ep *endpointRecord) error {
	if ep.HostLink == "" {
		return nil
	}
	return s.removeLink(ep.HostLink)
}

// gatewayOf chooses the endpoint that leads out: the one with the highest priority, else the first by the network's name;
// nil if none does.
func (s *Service) gatewayOf(sb *sandbox) *endpointRecord {
	type candidate struct {
		ep       *endpointRecord
		priority int
		name     string
	}
	var all []candidate
	for _, ep := range sb.endpoints {
		if !ep.Gateway.IsValid() {
			continue
		}
		c := candidate{ep: ep, name: s.networkName(ep.Network)}
		if ep.Wanted != nil {
			c.priority = ep.Wanted.GwPriority
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil
	}
	return slices.MinFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.name, b.name))
	}).ep
}

func (s *Service) networkName(id string) string {
	if n := s.networkByID(id); n != nil {
		return n.rec.Name
	}
	return ""
}

// reroute sets the default route after an endpoint has gone, and sends published ports to the new gateway's address. It
// needs sb.mu.
func (s *Service) reroute(sb *sandbox) error {
	ep := s.gatewayOf(sb)
	if ep == nil {
		sb.gateway = ""
		return s.retarget(sb)
	}
	if ep.ID == sb.gateway {
		return nil
	}
	sb.gateway = ep.ID
	err := inNamespace(sb.rec.Path, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		link, err := h.LinkByName(ep.Link)
		if err != nil {
			return fmt.Errorf("link %s: %w", ep.Link, err)
		}
		return setDefaultRoute(h, link, ep)
	})
	return errors.Join(err, s.retarget(sb))
}
