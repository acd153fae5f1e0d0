//go:build linux

package vm

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/test/dosim"
)

func testNetwork(t *testing.T) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces require root")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skipf("%v: test/setup test", err)
	}
	n, err := newNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.close(); err != nil {
			t.Error(err)
		}
		if _, err := net.InterfaceByName(n.host.Attrs().Name); err == nil {
			t.Error("the host's link stays")
		}
	})
	return n
}

// guest stands in for a droplet: it holds the ends that QEMU would.
type guest struct {
	address    netip.Addr
	eth0, eth1 *os.File
}

func (n *network) guest(t *testing.T, id int, vpc string) guest {
	t.Helper()
	a := n.public.Addr().As4()
	a[3] = byte(id)
	g := guest{address: netip.AddrFrom4(a)}
	var err error
	if g.eth0, g.eth1, err = n.taps(id, g.address, vpc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.eth0.Close(); g.eth1.Close() })
	return g
}

// header is virtio's, which precedes each frame.
var header = make([]byte, 10)

// send puts a frame on a link.
func send(t *testing.T, f *os.File, frame []byte) {
	t.Helper()
	if _, err := f.Write(append(append([]byte{}, header...), frame...)); err != nil {
		t.Fatal(err)
	}
}

// receive says whether a frame that has want in it arrives within d.
func receive(t *testing.T, f *os.File, want []byte, d time.Duration) bool {
	t.Helper()
	b := make([]byte, 2048)
	for end := time.Now().Add(d); time.Now().Before(end); {
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 50); err != nil || n == 0 {
			continue
		}
		n, err := f.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b[:n], want) {
			return true
		}
	}
	return false
}

func ethernet(from byte, kind uint16, payload []byte) []byte {
	f := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0, from, byte(kind >> 8), byte(kind)}
	return append(f, payload...)
}

func TestPrivateNetworks(t *testing.T) {
	n := testNetwork(t)
	one, two, other := n.guest(t, 11, "vpc-a"), n.guest(t, 12, "vpc-a"), n.guest(t, 13, "vpc-b")
	hello := []byte("hello, neighbour")
	send(t, one.eth1, ethernet(11, 0x88b5, hello))
	if !receive(t, two.eth1, hello, 5*time.Second) {
		t.Error("a neighbour in the same VPC hears nothing")
	}
	if receive(t, other.eth1, hello, 300*time.Millisecond) {
		t.Error("a stranger in another VPC listens in")
	}
}

// TestNeighboursAreReached has a droplet ask who has another's address, and who has none's.
func TestNeighboursAreReached(t *testing.T) {
	n := testNetwork(t)
	one, two := n.guest(t, 11, "vpc"), n.guest(t, 12, "vpc")
	for _, c := range []struct {
		to   netip.Addr
		want bool
	}{{two.address, true}, {n.gateway(), true}, {netip.MustParseAddr(metadataAddress), true}, {n.public.Addr().Next().Next(), false}} {
		from, to := one.address.As4(), c.to.As4()
		ask := append([]byte{0, 1, 8, 0, 6, 4, 0, 1, 0xfe, 0, 0, 0, 0, 11}, from[:]...)
		ask = append(append(ask, 0, 0, 0, 0, 0, 0), to[:]...)
		send(t, one.eth0, ethernet(11, 0x0806, ask))
		reply := []byte{0, 1, 8, 0, 6, 4, 0, 2}
		patience := 5 * time.Second
		if !c.want {
			patience = 300 * time.Millisecond
		}
		if got := receive(t, one.eth0, reply, patience); got != c.want {
			t.Errorf("ARP for %s answered: %v", c.to, got)
		}
	}
}

func TestRulesAreTaken(t *testing.T) {
	n := testNetwork(t)
	a := netip.MustParseAddr
	p := netip.MustParsePrefix
	f := &filtering{
		policies: []dosim.Policy{{ID: 7, Address: a("198.18.0.7"), Inbound: []dosim.Rule{
			{Protocol: "tcp", First: 22, Last: 22, Addresses: []netip.Prefix{p("192.0.2.1/32"), p("2001:db8::/32")}},
			{Protocol: "udp", First: 8000, Last: 9000, Addresses: []netip.Prefix{p("0.0.0.0/0")}},
			{Protocol: "icmp", First: 0, Last: 65535, Addresses: []netip.Prefix{p("0.0.0.0/0")}},
		}, Outbound: []dosim.Rule{{Protocol: "tcp", First: 0, Last: 65535, Addresses: []netip.Prefix{p("0.0.0.0/0")}}}}},
		reserved: map[netip.Addr]netip.Addr{n.public.Addr().Next().Next(): a("198.18.0.7")},
		cut:      map[netip.Addr]time.Time{a("198.18.0.7"): time.Now().Add(time.Hour), a("198.18.0.8"): time.Now().Add(-time.Hour)},
	}
	if err := n.apply(f); err != nil {
		t.Fatalf("%v\n%s", err, f.ruleset(time.Now()))
	}
	if err := n.forgetSSH(a("198.18.0.7")); err != nil {
		t.Error(err)
	}
	if err := n.apply(&filtering{}); err != nil {
		t.Error(err)
	}
}

func TestNetworksDoNotMeet(t *testing.T) {
	one, two := testNetwork(t), testNetwork(t)
	if one.public.Overlaps(two.public) || one.host.Attrs().Name == two.host.Attrs().Name {
		t.Errorf("both are %s on %s", one.public, one.host.Attrs().Name)
	}
}
