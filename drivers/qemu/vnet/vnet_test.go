package vnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"

	"github.com/getberth/berth/drivers/qemu/internal/fakevm"
	"github.com/getberth/berth/drivers/qemu/lan"
)

func newNetwork(t *testing.T) *Network {
	t.Helper()
	n, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// plugIn attaches a guest; the channel gets Attach's result.
func plugIn(t *testing.T, n *Network, index int) (*fakevm.Guest, <-chan error) {
	t.Helper()
	a, b := socketPair(t)
	done := make(chan error, 1)
	go func() { done <- n.Attach(t.Context(), a, index) }()
	g := fakevm.NewGuest(t, b, index)
	waitFor(t, func() bool { return n.port(index) != nil })
	return g, done
}

func socketPair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-t.Context().Done():
			t.Fatal("the test was ended")
		case <-time.After(time.Millisecond):
		}
	}
}

func echoServer(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go fakevm.Echo(c)
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// echoes sends text, closes its direction, and expects the text back and then the end.
func echoes(t *testing.T, c HalfCloser, text string) {
	t.Helper()
	defer c.Close()
	go func() {
		io.WriteString(c, text)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != text {
		t.Errorf("got %d bytes and error %v, want the %d bytes that were sent", len(got), err, len(text))
	}
}

func TestGuestReachesTheHost(t *testing.T) {
	n := newNetwork(t)
	g, _ := plugIn(t, n, 2)
	port := echoServer(t).Port()
	c, err := g.DialTCP(t.Context(), netip.AddrPortFrom(lan.Host(), port))
	if err != nil {
		t.Fatal(err)
	}
	echoes(t, c, strings.Repeat("host ", 100_000))
}

func TestGuestReachesTheHostByUDP(t *testing.T) {
	n := newNetwork(t)
	g, _ := plugIn(t, n, 2)
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go func() {
		b := make([]byte, 64<<10)
		for {
			k, a, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			pc.WriteTo(b[:k], a)
		}
	}()
	c, err := g.DialUDP(netip.AddrPortFrom(lan.Host(), netip.MustParseAddrPort(pc.LocalAddr().String()).Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, size := range []int{1, 1400, 9000} { // the last in fragments
		want := bytes.Repeat([]byte{'x'}, size)
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 64<<10)
		k, err := c.Read(got)
		if err != nil || !bytes.Equal(got[:k], want) {
			t.Errorf("datagram of %d bytes: got %d, error %v", size, k, err)
		}
	}
}

func TestGatewayOffersNothingElse(t *testing.T) {
	n := newNetwork(t)
	g, _ := plugIn(t, n, 2)
	for _, port := range []uint16{22, 80, 443, 1024, 2376, 8080} {
		if c, err := g.DialTCP(t.Context(), netip.AddrPortFrom(lan.Gateway(), port)); err == nil {
			c.Close()
			t.Errorf("the gateway answers on port %d", port)
		}
	}
}

func TestMachinesReachEachOther(t *testing.T) {
	n := newNetwork(t)
	a, _ := plugIn(t, n, 2)
	b, _ := plugIn(t, n, 250)
	b.ListenTCP(t, 80, fakevm.Echo)
	c, err := a.DialTCP(t.Context(), netip.AddrPortFrom(lan.IP(250), 80))
	if err != nil {
		t.Fatal(err)
	}
	echoes(t, c, strings.Repeat("neighbour ", 50_000))
}

func TestHostReachesAMachine(t *testing.T) {
	n := newNetwork(t)
	g, _ := plugIn(t, n, 7)
	g.ListenTCP(t, 80, fakevm.Echo)
	c, err := n.DialTCP(t.Context(), netip.AddrPortFrom(lan.IP(7), 80))
	if err != nil {
		t.Fatal(err)
	}
	echoes(t, c, strings.Repeat("inwards ", 50_000))
}

func TestDHCP(t *testing.T) {
	n := newNetwork(t)
	for _, index := range []int{2, 99, 250} {
		g, _ := plugIn(t, n, index)
		mac := lan.MAC(index)
		d, err := dhcpv4.NewDiscovery(mac[:])
		if err != nil {
			t.Fatal(err)
		}
		from, to := netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67")
		if err := g.Send(fakevm.Frame(mac, broadcastMAC, from, to, d.ToBytes())); err != nil {
			t.Fatal(err)
		}
		offer := nextDHCP(t, g)
		if got, want := offer.YourIPAddr.String(), lan.IP(index).String(); got != want {
			t.Errorf("machine %d is offered %s, want %s", index, got, want)
		}
		if r := offer.Router(); len(r) != 1 || r[0].String() != lan.Gateway().String() {
			t.Errorf("machine %d is told the routers %v", index, r)
		}
	}
}

func nextDHCP(t *testing.T, g *fakevm.Guest) *dhcpv4.DHCPv4 {
	t.Helper()
	for {
		select {
		case f := <-g.Seen:
			if len(f) > 42 {
				if m, err := dhcpv4.FromBytes(f[42:]); err == nil {
					return m
				}
			}
		case <-t.Context().Done():
			t.Fatal("no answer")
		}
	}
}

func TestDNS(t *testing.T) {
	n := newNetwork(t)
	n.SetNames(map[string]netip.Addr{"web1": lan.IP(2), "Web2": lan.IP(3), "example.com": lan.IP(4), "host": lan.IP(5)})
	g, _ := plugIn(t, n, 2)
	for _, tt := range []struct {
		name  string
		kind  uint16
		want  string
		rcode int
	}{
		{"web1.berth.internal.", dns.TypeA, "192.168.127.2", 0},
		{"web1.", dns.TypeA, "192.168.127.2", 0},
		{"WEB2.Berth.Internal.", dns.TypeA, "192.168.127.3", 0},
		{"web1.berth.internal.", dns.TypeAAAA, "", 0},
		{"example.com.berth.internal.", dns.TypeA, "192.168.127.4", 0},
		{"host.berth.internal.", dns.TypeA, "192.168.127.254", 0}, // not the machine of that name
		{"host.docker.internal.", dns.TypeA, "192.168.127.254", 0},
		{"gateway.berth.internal.", dns.TypeA, "192.168.127.1", 0},
		{"nobody.berth.internal.", dns.TypeA, "", dns.RcodeNameError},
		{"2.127.168.192.in-addr.arpa.", dns.TypePTR, "web1.berth.internal.", 0},
		{"77.127.168.192.in-addr.arpa.", dns.TypePTR, "", dns.RcodeNameError},
		{"localhost.", dns.TypeA, "127.0.0.1", 0}, // by the host's resolver
	} {
		for _, network := range []string{"udp", "tcp"} {
			m := ask(t, g, network, tt.name, tt.kind)
			if got := values(m); got != tt.want || m.Rcode != tt.rcode {
				t.Errorf("%s %s %s: got %q, %s", network, tt.name, dns.TypeToString[tt.kind], got, dns.RcodeToString[m.Rcode])
			}
		}
	}
}

func ask(t *testing.T, g *fakevm.Guest, network, name string, kind uint16) *dns.Msg {
	t.Helper()
	at := netip.AddrPortFrom(lan.Gateway(), 53)
	var c net.Conn
	var err error
	if network == "udp" {
		c, err = g.DialUDP(at)
	} else {
		c, err = g.DialTCP(t.Context(), at)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	q := new(dns.Msg).SetQuestion(name, kind)
	dc := &dns.Conn{Conn: c}
	if network == "tcp" {
		dc.Conn = asTCP{c}
	}
	m, _, err := (&dns.Client{Net: network}).ExchangeWithConn(q, dc)
	if err != nil {
		t.Fatalf("%s %s: %v", network, name, err)
	}
	return m
}

// asTCP keeps the client from taking the connection for one of datagrams.
type asTCP struct{ net.Conn }

func values(m *dns.Msg) string {
	var l []string
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			l = append(l, rr.A.String())
		case *dns.PTR:
			l = append(l, rr.Ptr)
		}
	}
	return strings.Join(l, " ")
}

// A paused guest reads nothing. The others must not notice.
func TestStuckMachineHoldsNobodyUp(t *testing.T) {
	n := newNetwork(t)
	stuck, far := net.Pipe()
	defer far.Close()
	go n.Attach(t.Context(), stuck, 9)
	waitFor(t, func() bool { return n.port(9) != nil })
	a, _ := plugIn(t, n, 2)
	b, _ := plugIn(t, n, 3)
	b.ListenTCP(t, 80, fakevm.Echo)
	frame := fakevm.Frame(lan.MAC(2), lan.MAC(9), netip.AddrPortFrom(lan.IP(2), 1), netip.AddrPortFrom(lan.IP(9), 1), make([]byte, 1000))
	for range 3 * queueLength {
		if err := a.Send(frame); err != nil {
			t.Fatal(err)
		}
	}
	c, err := a.DialTCP(t.Context(), netip.AddrPortFrom(lan.IP(3), 80))
	if err != nil {
		t.Fatal(err)
	}
	echoes(t, c, "still here")
}

func TestOddFramesHarmNobody(t *testing.T) {
	n := newNetwork(t)
	g, done := plugIn(t, n, 2)
	g.ListenTCP(t, 80, fakevm.Echo)
	for _, f := range [][]byte{{}, {1}, make([]byte, 13), make([]byte, 14), make([]byte, 60), make([]byte, maxFrame)} {
		if err := g.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	c, err := n.DialTCP(t.Context(), netip.AddrPortFrom(lan.IP(2), 80))
	if err != nil {
		t.Fatal(err)
	}
	echoes(t, c, "fine")
	if err := g.SendRaw([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "4294967295 bytes") {
		t.Errorf("a frame of 4 GiB: %v", err)
	}
}

func TestOnePortPerMachine(t *testing.T) {
	n := newNetwork(t)
	plugIn(t, n, 2)
	a, b := net.Pipe()
	defer b.Close()
	if err := n.Attach(t.Context(), a, 2); err == nil {
		t.Error("a second connection of one machine was taken")
	}
}

func TestAttachEndsWithItsContext(t *testing.T) {
	n := newNetwork(t)
	a, b := socketPair(t)
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Attach(ctx, a, 2) }()
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	waitFor(t, func() bool { return n.port(2) == nil })
}
