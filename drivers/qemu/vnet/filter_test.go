package vnet

import (
	"net/netip"
	"testing"

	"github.com/getberth/berth/drivers/qemu/internal/fakevm"
	"github.com/getberth/berth/drivers/qemu/lan"
)

func TestJudge(t *testing.T) {
	own, other := lan.MAC(2), lan.MAC(3)
	udp := func(src, dst [6]byte, from, to string) []byte {
		return fakevm.Frame(src, dst, netip.MustParseAddrPort(from), netip.MustParseAddrPort(to), []byte("x"))
	}
	me := "192.168.127.2:1000"
	gateway, flood := verdict{gateway: true}, verdict{gateway: true, flood: true}
	for _, tt := range []struct {
		name  string
		frame []byte
		want  verdict
	}{
		{"to the outside", udp(own, gatewayMAC, me, "93.184.216.34:80"), gateway},
		{"to the gateway", udp(own, gatewayMAC, me, "192.168.127.1:53"), gateway},
		{"to the host", udp(own, gatewayMAC, me, "192.168.127.254:80"), gateway},
		{"to a neighbour", udp(own, other, me, "192.168.127.3:80"), verdict{port: 3}},
		{"to itself", udp(own, own, me, me), verdict{}},
		{"to an unknown MAC", udp(own, [6]byte{2, 2, 2, 2, 2, 2}, me, "192.168.127.3:80"), verdict{}},
		{"broadcast", udp(own, broadcastMAC, me, "192.168.127.255:80"), verdict{flood: true}},
		{"foreign source MAC", udp(other, gatewayMAC, me, "93.184.216.34:80"), verdict{}},
		{"foreign source address", udp(own, other, "192.168.127.1:53", "192.168.127.3:80"), verdict{}},
		{"address of a container", udp(own, gatewayMAC, "172.17.0.2:53", "93.184.216.34:80"), verdict{}},
		{"to the host's loopback", udp(own, gatewayMAC, me, "127.0.0.1:80"), verdict{}},
		{"to another machine's address on the host", udp(own, gatewayMAC, me, "127.80.3.3:2376"), verdict{}},
		{"to cloud metadata", udp(own, gatewayMAC, me, "169.254.169.254:80"), verdict{}},
		{"to multicast", udp(own, gatewayMAC, me, "224.0.0.251:5353"), verdict{}},
		{"to 0.0.0.0", udp(own, gatewayMAC, me, "0.0.0.0:80"), verdict{}},
		{"to a neighbour through the gateway", udp(own, gatewayMAC, me, "192.168.127.3:80"), verdict{}},
		{"DHCP request", udp(own, broadcastMAC, "0.0.0.0:68", "255.255.255.255:67"), gateway},
		{"DHCP request to a neighbour", udp(own, other, me, "192.168.127.3:67"), verdict{}},
		{"DHCP answer", udp(own, broadcastMAC, "192.168.127.2:67", "255.255.255.255:68"), verdict{}},
		{"ARP for the gateway", arpFrame(own, "192.168.127.2", "192.168.127.1"), flood},
		{"ARP for the host", arpFrame(own, "192.168.127.2", "192.168.127.254"), flood},
		{"ARP for a neighbour", arpFrame(own, "192.168.127.2", "192.168.127.3"), verdict{flood: true}},
		{"ARP in a neighbour's name", arpFrame(own, "192.168.127.3", "192.168.127.1"), verdict{}},
		{"ARP probe", arpFrame(own, "0.0.0.0", "192.168.127.2"), verdict{flood: true}},
		{"IPv6", append(append(append([]byte{}, broadcastMAC[:]...), own[:]...), 0x86, 0xdd, 0x60), verdict{}},
		{"empty", nil, verdict{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := judge(tt.frame, 2); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func arpFrame(mac [6]byte, sender, target string) []byte {
	b := append(append(append([]byte{}, broadcastMAC[:]...), mac[:]...), 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	s, d := netip.MustParseAddr(sender).As4(), netip.MustParseAddr(target).As4()
	b = append(append(b, mac[:]...), s[:]...)
	return append(append(b, make([]byte, 6)...), d[:]...)
}

func FuzzJudge(f *testing.F) {
	f.Add([]byte{}, 2)
	f.Add(arpFrame(lan.MAC(2), "192.168.127.2", "192.168.127.1"), 2)
	f.Add(fakevm.Frame(lan.MAC(2), lan.MAC(1), netip.MustParseAddrPort("192.168.127.2:1"), netip.MustParseAddrPort("1.1.1.1:53"), nil), 2)
	f.Fuzz(func(t *testing.T, frame []byte, index int) {
		v := judge(frame, index)
		if v.port == index && index != 0 {
			t.Error("a frame comes back to its sender")
		}
		if v != (verdict{}) && (len(frame) < ethHeader || [6]byte(frame[6:12]) != lan.MAC(index)) {
			t.Error("a frame passes in a foreign name")
		}
	})
}
