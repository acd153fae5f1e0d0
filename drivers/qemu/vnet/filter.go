package vnet

import (
	"encoding/binary"
	"net/netip"

	"github.com/getberth/berth/drivers/qemu/lan"
)

// Sizes of what the filter looks at, in bytes.
const (
	ethHeader = 14
	ipHeader  = 20 // without options
	arpPacket = 28
)

const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
)

const (
	protoICMP = 1
	protoUDP  = 17
)

var (
	broadcastMAC = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	gatewayMAC   = lan.MAC(1)
)

// verdict is where a frame from a guest may go.
type verdict struct {
	gateway bool
	flood   bool
	port    int // index of the one machine that gets it; 0 for none
}

// judge decides where a frame sent by the machine with the given index may go. The guest is hostile: it may neither speak for
// another address than its own, nor answer as a DHCP server, nor reach the host's loopback, link-local or multicast addresses
// through the gateway. The network is IPv4 only.
func judge(frame []byte, index int) verdict {
	if len(frame) < ethHeader || [6]byte(frame[6:12]) != lan.MAC(index) {
		return verdict{}
	}
	v := byMAC([6]byte(frame[:6]), index)
	switch binary.BigEndian.Uint16(frame[12:14]) {
	case typeARP:
		return judgeARP(frame[ethHeader:], index, v)
	case typeIPv4:
		return judgeIPv4(frame[ethHeader:], index, v)
	}
	return verdict{}
}

func byMAC(dst [6]byte, from int) verdict {
	to := int(dst[5])
	switch {
	case dst == broadcastMAC:
		return verdict{gateway: true, flood: true}
	case dst == gatewayMAC:
		return verdict{gateway: true}
	case lan.Valid(to) && to != from && dst == lan.MAC(to):
		return verdict{port: to}
	}
	return verdict{}
}

func judgeARP(p []byte, index int, v verdict) verdict {
	if len(p) < arpPacket || [6]byte(p[8:14]) != lan.MAC(index) {
		return verdict{}
	}
	sender, target := netip.AddrFrom4([4]byte(p[14:18])), netip.AddrFrom4([4]byte(p[24:28]))
	if sender != lan.IP(index) && !sender.IsUnspecified() {
		return verdict{}
	}
	// The stack behind the gateway would answer for any address.
	v.gateway = v.gateway && (target == lan.Gateway() || target == lan.Host())
	return v
}

func judgeIPv4(p []byte, index int, v verdict) verdict {
	if len(p) < ipHeader || p[0]>>4 != 4 || int(p[0]&0xf)*4 < ipHeader {
		return verdict{}
	}
	src, dst := netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	toServer, fromServer := asDHCP(p)
	if fromServer {
		return verdict{}
	}
	if toServer { // nobody but the gateway needs to hear it
		ok := v.gateway && (src == lan.IP(index) || src.IsUnspecified())
		return verdict{gateway: ok}
	}
	if src != lan.IP(index) {
		return verdict{}
	}
	v.gateway = v.gateway && gatewayTakes(dst, p[9])
	return v
}

// asDHCP tells whether an IPv4 packet goes to, or claims to come from, a DHCP server. A later fragment has no ports and is
// neither: it is of no use without its first.
func asDHCP(p []byte) (toServer, fromServer bool) {
	n := int(p[0]&0xf) * 4
	if p[9] != protoUDP || len(p) < n+8 || binary.BigEndian.Uint16(p[6:8])&0x1fff != 0 {
		return false, false
	}
	return binary.BigEndian.Uint16(p[n+2:]) == 67, binary.BigEndian.Uint16(p[n:]) == 67
}

// gatewayTakes tells whether the gateway accepts a packet to dst: its own services, the host, and unicast addresses outside.
func gatewayTakes(dst netip.Addr, proto byte) bool {
	switch {
	case dst == lan.Gateway() || dst == lan.Host():
		return true
	case lan.Subnet().Contains(dst):
		return false
	case proto == protoICMP:
		return false // the stack would answer an echo for anybody: rather no answer than a false one
	}
	return routable(dst)
}

// routable tells whether the switch opens connections to an address for a guest. Link-local holds the metadata services of
// clouds; 127/8 holds the host's own services and the other machines' addresses.
func routable(a netip.Addr) bool {
	b := a.As4()
	return b[0] != 0 && b[0] < 240 && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast()
}
