package network

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/network/ipam"
)

const defaultBridge = "docker0"

// ensureBridge makes a network's bridge, or corrects the one that is there.
func (s *Service) ensureBridge(n *bridgeNetwork) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := s.buildBridge(n); err != nil {
		return fmt.Errorf("bridge %s of network %s: %w", n.rec.Bridge, n.rec.Name, needsRight(err))
	}
	return nil
}

func needsRight(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (requires CAP_NET_ADMIN)", err)
	}
	return err
}

func (s *Service) buildBridge(n *bridgeNetwork) error {
	link, err := s.findBridge(n)
	if err != nil {
		return err
	}
	if !n.options.inhibitIPv4 {
		address := netip.PrefixFrom(n.rec.Gateway, n.rec.Subnet.Bits())
		if err := s.link.AddrReplace(link, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
			return fmt.Errorf("setting address %s: %w", address, err)
		}
	}
	// Ports published on 127.0.0.1 are routed to the bridge; the firewall drops what containers send to 127/8 themselves.
	if err := setSysctl("1", "ipv4", "conf", n.rec.Bridge, "route_localnet"); err != nil {
		s.noteSysctl(n, err)
		s.noLoopback.Store(true)
	}
	if err := disableIPv6(n.rec.Bridge, true); err != nil {
		s.noteSysctl(n, err)
	}
	return s.link.LinkSetUp(link)
}

// findBridge returns the interface, made if it is not there.
func (s *Service) findBridge(n *bridgeNetwork) (netlink.Link, error) {
	link, err := s.link.LinkByName(n.rec.Bridge)
	if err == nil {
		if link.Type() != "bridge" {
			return nil, fmt.Errorf("the interface is no bridge but of type %s", link.Type())
		}
		return link, nil
	}
	if !isNoLink(err) {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = n.rec.Bridge, n.options.mtu, randomMAC()
	link = &netlink.Bridge{LinkAttrs: attrs}
	return link, s.link.LinkAdd(link)
}

func isNoLink(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.As(err, &none) || errors.Is(err, unix.ENODEV)
}

// removeBridge needs n.mu.
func (s *Service) removeBridge(n *bridgeNetwork) error {
	if !n.isBridge() || n.rec.Adopted {
		return nil
	}
	return s.removeLink(n.rec.Bridge)
}

func (s *Service) removeLink(name string) error {
	link, err := s.link.LinkByName(name)
	if err == nil {
		err = s.link.LinkDel(link)
	}
	if err != nil && !isNoLink(err) {
		return fmt.Errorf("removing interface %s: %w", name, err)
	}
	return nil
}

// configureDefault sets what the configuration and the host's interface say of the default network. before is its subnet
// so far, if any.
func (s *Service) configureDefault(rec *networkRecord, before netip.Prefix) error {
	rec.Bridge = s.cfg.Bridge
	if rec.Bridge == "" {
		rec.Bridge = defaultBridge
	}
	rec.Adopted = rec.Bridge != defaultBridge
	address, err := s.defaultAddress(rec, before)
	if err != nil {
		return err
	}
	rec.Subnet, rec.Gateway = address.Masked(), address.Addr()
	mtu := s.cfg.MTU
	if mtu == 0 {
		mtu = defaultMTU
	}
	rec.Options = map[string]string{
		optDefault: "true", optICC: strconv.FormatBool(enabled(s.cfg.ICC)), optMasquerade: strconv.FormatBool(enabled(s.cfg.IPMasq)),
		optHostBinding: cmp.Or(s.cfg.IP, "0.0.0.0"), optBridgeName: rec.Bridge, optMTU: strconv.Itoa(mtu),
	}
	rec.Range = netip.Prefix{}
	if s.cfg.Within == "" {
		return nil
	}
	if rec.Range, err = netip.ParsePrefix(s.cfg.Within); err != nil || !rec.Subnet.Contains(rec.Range.Addr()) || rec.Range.Bits() < rec.Subnet.Bits() {
		return fmt.Errorf("fixed-cidr %q is not a part of %s", s.cfg.Within, rec.Subnet)
	}
	return nil
}

// defaultAddress chooses the default bridge's address: the configured one, else that of the interface if it exists, else the
// one it had if it is still free, else one of a free subnet.
func (s *Service) defaultAddress(rec *networkRecord, before netip.Prefix) (netip.Prefix, error) {
	if s.cfg.BIP != "" {
		p, err := netip.ParsePrefix(s.cfg.BIP)
		if err != nil || !p.Addr().Is4() || p.Masked().Addr() == p.Addr() && p.Bits() < 31 {
			return p, fmt.Errorf("bip %q is not an IPv4 address with the length of its subnet", s.cfg.BIP)
		}
		return p, nil
	}
	link, err := s.link.LinkByName(rec.Bridge)
	switch {
	case err == nil:
		if p, ok := s.linkAddress(link); ok {
			return p, nil
		}
	case rec.Adopted:
		return netip.Prefix{}, fmt.Errorf("bridge %s: %w", rec.Bridge, err)
	}
	taken, err := s.takenSubnets(rec.ID)
	if err != nil {
		return netip.Prefix{}, err
	}
	if before.IsValid() && !ipam.Overlaps(before, taken) {
		return netip.PrefixFrom(rec.Gateway, before.Bits()), nil
	}
	subnet, err := ipam.PickSubnet(s.cfg.Pools, taken)
	return netip.PrefixFrom(subnet.Addr().Next(), subnet.Bits()), err
}

// linkAddress returns the first IPv4 address of an interface.
func (s *Service) linkAddress(link netlink.Link) (netip.Prefix, bool) {
	addrs, err := s.link.AddrList(link, netlink.FAMILY_V4)
	if err != nil || len(addrs) == 0 {
		return netip.Prefix{}, false
	}
	return prefix(addrs[0].IPNet)
}

// takenSubnets are those that a new network must not overlap: of other networks, and where the host has routes to. The
// network with id except does not count.
func (s *Service) takenSubnets(except string) ([]netip.Prefix, error) {
	s.mu.Lock()
	ours := map[string]bool{}
	var taken []netip.Prefix
	for id, n := range s.networks {
		if n.isBridge() && id != except {
			taken = append(taken, n.rec.Subnet)
			ours[n.rec.Bridge] = true
		}
	}
	s.mu.Unlock()
	routes, err := s.link.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("listing the host's routes: %w", err)
	}
	for _, r := range routes {
		if p, ok := prefix(r.Dst); ok && p.Bits() > 0 { // not the default route
			taken = append(taken, p)
		}
	}
	return taken, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	a = a.Unmap()
	return netip.PrefixFrom(a, bits), ok && a.Is4() && bits <= 32
}

// randomMAC is a locally administered unicast address. A bridge that is given one keeps it, whatever its ports are.
func randomMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac) // never fails
	mac[0] = mac[0]&^1 | 2
	return mac
}

// addressMAC derives a container's hardware address from its IPv4 address, so that neighbours who remember it are right when
// the address is given out again.
func addressMAC(a netip.Addr) network.HardwareAddr {
	b := a.As4()
	return network.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}

// isHostLink reports whether an interface was named by hostLink.
func isHostLink(name string) bool {
	hex, ok := strings.CutPrefix(name, linkPrefix)
	return ok && len(hex) == linkDigits && strings.Trim(hex, "0123456789abcdef") == ""
}

// Container links on the bridges are called vethXXXXXXXXXXX: tools that manage a host's links know to leave veth* alone,
// and the number of digits tells ours from those of others.
const (
	linkPrefix = "veth"
	linkDigits = 11
)

func hostLink(endpointID string) string { return linkPrefix + endpointID[:linkDigits] }
