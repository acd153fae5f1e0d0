package network

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forgetFlows makes the kernel forget streams of datagrams to UDP ports whose target has changed: as long as a client keeps
// sending, the kernel would go on sending them where it did at first. Those that go to the address still stay.
func (s *Service) forgetFlows(bindings []*binding, still netip.Addr) {
	stale := staleFlows{still: still, ports: map[uint16][]netip.Addr{}}
	for _, b := range bindings {
		if b.Proto == network.UDP && b.HostIP.Is4() {
			stale.ports[b.HostPort] = append(stale.ports[b.HostPort], b.HostIP)
		}
	}
	if len(stale.ports) == 0 {
		return
	}
	if _, err := s.link.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, &stale); err != nil {
		s.log.Warn("forgetting streams of datagrams to published ports", "error", err)
	}
}

type staleFlows struct {
	still netip.Addr
	ports map[uint16][]netip.Addr
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f *staleFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	dst, ok := netip.AddrFromSlice(flow.Forward.DstIP)
	if !ok {
		return false
	}
	for _, addr := range f.ports[flow.Forward.DstPort] {
		if addr.IsUnspecified() || addr == dst.Unmap() {
			from, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
			return from.Unmap() != f.still
		}
	}
	return false
}

// ephemeralPorts is the range that the kernel takes ports from that nobody asks for by number.
func ephemeralPorts() (first, last uint16) {
	const defaultFirst, defaultLast = 32768, 60999
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return defaultFirst, defaultLast
	}
	if _, err := fmt.Sscan(strings.TrimSpace(string(data)), &first, &last); err != nil || first == 0 || last < first {
		return defaultFirst, defaultLast
	}
	return first, last
}
