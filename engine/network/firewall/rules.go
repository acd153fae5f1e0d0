// Package firewall keeps the kernel's nftables in step with the engine's networks: one table of its own, never another.
//
// All that varies is in sets and maps, so that the number of rules is constant, a packet costs the same with a thousand
// published ports as with one, and a change is a few elements. A change that does not fit what is in the kernel (somebody
// flushed it) builds the table anew. The table outlives the engine.
//
// A packet that this table accepts can still be dropped by another: where iptables' FORWARD chain has the policy DROP (a
// Docker Engine beside this one, some firewall front ends), it must be told to accept the bridges.
//
// Requires Linux >= 5.6: NAT in inet tables (5.2), concatenated intervals (5.6).
package firewall

import (
	"maps"
	"net/netip"
)

// TableName is the name of the one table, of family inet.
const TableName = "berth"

// Rules is all that the table says.
type Rules struct {
	Bridges map[string]Bridge // by the bridge's interface name
	Ports   map[Port]netip.AddrPort
	Guarded map[uint16]struct{} // TCP ports of this host that bridges must not reach
	// NoLoopback leaves to the proxy what this host sends to its loopback: bridges do not route 127/8 (route_localnet).
	NoLoopback bool
	// Relay is an address whose packets find what is published on 127.0.0.1: that of the computer on which this host is a light
	// VM, whose loopback is the one that users mean. The zero Addr means nobody.
	Relay netip.Addr
}

// Bridge is a network's interface and what its containers may.
type Bridge struct {
	Subnet     netip.Prefix
	Masquerade bool // they appear elsewhere under the host's address
	Internal   bool // they reach nothing but each other
	Isolated   bool // they do not reach each other
}

// Port is a published port.
type Port struct {
	Proto uint8      // unix.IPPROTO_TCP or unix.IPPROTO_UDP
	IP    netip.Addr // the host's address; 0.0.0.0 means all
	Port  uint16
}

func (r Rules) clone() Rules {
	r.Bridges, r.Ports, r.Guarded = cloneMap(r.Bridges), cloneMap(r.Ports), cloneMap(r.Guarded)
	return r
}

func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	if len(m) == 0 { // a clone would keep the size that a cleared map once had
		return map[K]V{}
	}
	return maps.Clone(m)
}
