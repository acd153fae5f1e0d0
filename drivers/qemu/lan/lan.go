// Package lan numbers the machines on the virtual switch: a machine's index decides its address and its MAC.
package lan

import (
	"fmt"
	"net/netip"

	"github.com/getberth/berth/guest/seed"
)

// Indexes that machines may have. 0, 1, 254 and 255 are the network, the gateway, the host and broadcast; the rest of the gap
// is kept for later use.
const (
	First = 2
	Last  = 250
)

// HostIndex is the host number of the address under which guests reach the host's loopback interface.
const HostIndex = 254

// MTU of the virtual network, in bytes. Its cost is per frame, so larger ones carry more: three times as much at 9000 as at 1500
// under emulation, and no more at 65520. Nobody outside sees it, since the gateway ends every connection.
const MTU = 9000

// Valid tells whether a machine may have this index.
func Valid(index int) bool { return index >= First && index <= Last }

// Subnet is the network of all machines of one store.
func Subnet() netip.Prefix { return netip.MustParsePrefix(seed.Subnet) }

// IP returns the address with the given host number in the subnet.
func IP(index int) netip.Addr {
	a := Subnet().Addr().As4()
	a[3] = byte(index)
	return netip.AddrFrom4(a)
}

// Gateway is the address of the switch: router, DNS and DHCP.
func Gateway() netip.Addr { return netip.MustParseAddr(seed.Gateway) }

// Host is the address under which guests reach the host's loopback interface.
func Host() netip.Addr { return IP(HostIndex) }

// MAC returns the hardware address of a machine, and with index 1 the gateway's. The prefix is a locally administered one.
func MAC(index int) [6]byte { return [6]byte{0x5a, 0x94, 0xef, 0xe4, 0x0c, byte(index)} }

// MACString is MAC in the usual notation.
func MACString(index int) string {
	m := MAC(index)
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}
