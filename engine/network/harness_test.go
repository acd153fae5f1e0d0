package network

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/config"
)

// patience bounds what a test waits for when something is broken.
const patience = 10 * time.Second

// engine is a service under test, and what it told.
type engine struct {
	*Service
	t   testing.TB
	cfg Config

	mu     sync.Mutex // guards all below
	events []events.Message
	ports  []config.Port
}

func (e *engine) Publish(m events.Message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, m)
}

// told lists events as "action network container".
func (e *engine) told() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []string
	for _, m := range e.events {
		all = append(all, fmt.Sprintf("%s %s %s", m.Action, m.Actor.Attributes["name"], m.Actor.Attributes["container"]))
	}
	return all
}

func (e *engine) published() []config.Port {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.ports)
}

func start(t testing.TB, change ...func(*Config)) *engine {
	t.Helper()
	needRoot(t)
	run, err := os.MkdirTemp("/run", "berth")
	must(t, err)
	e := &engine{t: t, cfg: Config{Root: t.TempDir(), ExecRoot: run}}
	for _, c := range change {
		c(&e.cfg)
	}
	e.open()
	t.Cleanup(e.end)
	return e
}

func (e *engine) open() {
	e.t.Helper()
	cfg := e.cfg
	cfg.Events = e
	cfg.PortsChanged = func(ports []config.Port) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.ports = ports
	}
	s, err := Open(e.t.Context(), cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, w := range s.Warnings() {
		if e.cfg.Log == nil { // a test that logs expects some
			e.t.Error("warning:", w)
		}
	}
	e.Service = s
}

// crash ends the service as kill -9 would: sockets close, all else stays.
func (e *engine) crash() {
	e.t.Helper()
	if err := e.Close(); err != nil {
		e.t.Fatal(err)
	}
	e.Service = nil
}

// end removes all, and checks that nothing is left.
func (e *engine) end() {
	if e.Service == nil {
		e.open()
	}
	must(e.t, e.Recover(context.Background(), nil))
	e.settle()
	for _, n := range e.networks {
		if !isPredefined(n.rec.Name) {
			must(e.t, e.Remove(context.Background(), n.rec.ID))
		}
	}
	if links := e.hostLinks(); len(links) > 0 {
		e.t.Error("links are left:", links)
	}
	must(e.t, e.Close())
	if e.fw != nil {
		must(e.t, e.fw.Remove())
	}
	if link, err := netlink.LinkByName(defaultBridge); err == nil {
		must(e.t, netlink.LinkDel(link))
	}
}

// settle waits until the kernel has removed the links of sandboxes that are gone.
func (e *engine) settle() {
	e.t.Helper()
	deadline := time.After(patience)
	for {
		e.Service.mu.Lock()
		var gone chan struct{}
		for _, l := range e.leaving {
			gone = l.gone
		}
		e.Service.mu.Unlock()
		if gone == nil {
			return
		}
		select {
		case <-gone:
		case <-deadline:
			e.t.Fatal("links do not go")
		}
	}
}

// hostLinks lists the interfaces but for lo and the default bridge.
func (e *engine) hostLinks() []string {
	e.t.Helper()
	links, err := netlink.LinkList()
	must(e.t, err)
	var names []string
	for _, l := range links {
		if n := l.Attrs().Name; n != "lo" && n != defaultBridge {
			names = append(names, n)
		}
	}
	return names
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// box is a container as far as networks go.
type box struct {
	t    testing.TB
	id   string
	path string
	e    *engine
}

// run makes a sandbox and connects it to networks.
func (e *engine) run(name string, networks ...string) *box {
	e.t.Helper()
	b := &box{t: e.t, id: randomID(), e: e}
	path, err := e.CreateSandbox(e.t.Context(), b.id)
	must(e.t, err)
	b.path = path
	for _, n := range networks {
		b.connect(n, nil, name)
	}
	return b
}

func (b *box) connect(networkRef string, want *network.EndpointSettings, names ...string) *network.EndpointSettings {
	b.t.Helper()
	ep, err := b.e.Connect(b.t.Context(), b.id, networkRef, want, append(names, shortID(b.id)))
	must(b.t, err)
	return ep
}

// addr is the container's address in its first network.
func (b *box) addr() netip.Addr {
	b.e.mu.Lock()
	defer b.e.mu.Unlock()
	b.e.Service.mu.Lock()
	defer b.e.Service.mu.Unlock()
	return b.e.sandboxes[b.id].endpoints[0].Address.Addr()
}

func (b *box) remove() {
	b.t.Helper()
	must(b.t, b.e.DeleteSandbox(b.t.Context(), b.id))
}

// serveTCP answers connections with the client's address, a space and text.
func (b *box) serveTCP(port int, text string) {
	b.t.Helper()
	var ln net.Listener
	must(b.t, inNamespace(b.path, func() (err error) {
		ln, err = net.Listen("tcp4", fmt.Sprintf(":%d", port))
		return err
	}))
	answerTCP(b.t, ln, text)
}

func answerTCP(t testing.TB, ln net.Listener, text string) {
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			fmt.Fprintf(conn, "%s %s\n", host, text)
			conn.Close()
		}
	}()
}

// serveUDP answers datagrams likewise.
func (b *box) serveUDP(port int, text string) {
	b.t.Helper()
	var conn net.PacketConn
	must(b.t, inNamespace(b.path, func() (err error) {
		conn, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
		return err
	}))
	b.t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			_, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(from.String())
			_, _ = conn.WriteTo(fmt.Appendf(nil, "%s %s\n", host, text), from)
		}
	}()
}

// ask returns what a server answers, from this namespace.
func ask(proto, at string, timeout time.Duration) (string, error) {
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.Dial(proto, at)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(timeout))
	if proto[:3] == "udp" {
		if _, err := conn.Write([]byte("hello")); err != nil {
			return "", err
		}
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", err
	}
	return line[:len(line)-1], nil
}

// ask asks from within the container. Literal addresses only: the dialer must not start goroutines.
func (b *box) ask(proto, at string, timeout time.Duration) (reply string, err error) {
	b.t.Helper()
	var fd int
	ap := netip.MustParseAddrPort(at)
	must(b.t, inNamespace(b.path, func() (err error) {
		kind := unix.SOCK_STREAM
		if proto == "udp" {
			kind = unix.SOCK_DGRAM
		}
		fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	defer unix.Close(fd)
	tv := unix.NsecToTimeval(timeout.Nanoseconds())
	must(b.t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
	must(b.t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv))
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: ap.Addr().As4(), Port: int(ap.Port())}); err != nil {
		return "", err
	}
	if proto == "udp" {
		if _, err := unix.Write(fd, []byte("hello")); err != nil {
			return "", err
		}
	}
	buf := make([]byte, 1500)
	n, err := unix.Read(fd, buf)
	if err != nil || n == 0 {
		return "", fmt.Errorf("no reply: %v", err)
	}
	return string(buf[:n-1]), nil
}

func at(a netip.Addr, port int) string { return netip.AddrPortFrom(a, uint16(port)).String() }
