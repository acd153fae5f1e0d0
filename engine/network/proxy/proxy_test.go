package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const patience = 10 * time.Second

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func echoTCP(t *testing.T) netip.AddrPort {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				all, _ := io.ReadAll(conn) // until the client is done
				fmt.Fprintf(conn, "%d bytes", len(all))
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func TestTCPPassesOnTheEndOfEachDirection(t *testing.T) {
	p, err := ListenTCP(loopback(0))
	must(t, err)
	defer p.Close()
	p.SetTarget(echoTCP(t))
	conn, err := net.Dial("tcp", p.Addr().String())
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = conn.Write(make([]byte, 1<<20))
	must(t, err)
	must(t, conn.(*net.TCPConn).CloseWrite())
	got, err := io.ReadAll(conn)
	if string(got) != "1048576 bytes" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTCPWithoutTarget(t *testing.T) {
	p, err := ListenTCP(loopback(0))
	must(t, err)
	defer p.Close()
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	dead := free.Addr().(*net.TCPAddr).AddrPort()
	free.Close()
	for _, target := range []netip.AddrPort{{}, dead} {
		p.SetTarget(target)
		conn, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			continue // the proxy was faster
		}
		must(t, conn.SetDeadline(time.Now().Add(patience)))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("target %v: got data", target)
		}
		conn.Close()
	}
}

func TestCloseEndsConnections(t *testing.T) {
	p, err := ListenTCP(loopback(0))
	must(t, err)
	p.SetTarget(echoTCP(t))
	conn, err := net.Dial("tcp", p.Addr().String())
	must(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("x"))
	must(t, err)
	must(t, p.Close())
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	if _, err := conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("got %v; want the end of the connection", err)
	}
	if _, err := ListenTCP(p.Addr()); err != nil {
		t.Errorf("the port is not free: %v", err)
	}
}

func TestPortIsReserved(t *testing.T) {
	for name, listen := range map[string]func(netip.AddrPort) (Proxy, error){"tcp": ListenTCP, "udp": ListenUDP} {
		p, err := listen(netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
		must(t, err)
		if other, err := listen(loopback(p.Addr().Port())); err == nil {
			t.Errorf("%s: the port is given twice", name)
			other.Close()
		}
		must(t, p.Close())
	}
}

// echoUDP answers with its name, and who asked.
func echoUDP(t *testing.T, name string) netip.AddrPort {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(fmt.Appendf(nil, "%s %s\n", name, buf[:n]), from)
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestUDP(t *testing.T) {
	p, err := ListenUDP(netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	must(t, err)
	defer p.Close()
	a, b := echoUDP(t, "a"), echoUDP(t, "b")
	for _, addr := range []string{"127.0.0.1", "127.0.0.7"} { // the reply must come from where it was sent to
		conn, err := net.Dial("udp4", netip.AddrPortFrom(netip.MustParseAddr(addr), p.Addr().Port()).String())
		must(t, err)
		defer conn.Close()
		must(t, conn.SetDeadline(time.Now().Add(patience)))
		for i, target := range []netip.AddrPort{a, a, b} {
			p.SetTarget(target)
			_, err := fmt.Fprintf(conn, "%d", i)
			must(t, err)
			got, err := bufio.NewReader(conn).ReadString('\n')
			want := fmt.Sprintf("%s %d\n", map[netip.AddrPort]string{a: "a", b: "b"}[target], i)
			if got != want {
				t.Errorf("%s: got %q, %v; want %q", addr, got, err, want)
			}
		}
	}
}

func TestIPv6DoesNotTakeIPv4(t *testing.T) {
	p, err := ListenTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), 0))
	if err != nil {
		t.Skip("no IPv6:", err)
	}
	defer p.Close()
	other, err := ListenTCP(netip.AddrPortFrom(netip.IPv4Unspecified(), p.Addr().Port()))
	must(t, err)
	must(t, other.Close())
}
