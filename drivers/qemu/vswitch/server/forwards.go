package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/getberth/berth/drivers/qemu/lan"
	"github.com/getberth/berth/drivers/qemu/vnet"
	"github.com/getberth/berth/drivers/qemu/vswitch"
	"github.com/getberth/berth/engine/config"
)

// maxPublished bounds the ports that one machine may publish; a bridge of Linux takes 1023 containers.
const maxPublished = 4096

var localhost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// place is where a port appears on the host.
type place struct {
	proto string
	host  netip.AddrPort
}

// forward leads from a place to a port of the machine.
type forward struct {
	guest  uint16
	fixed  bool      // not published by the guest but part of every machine
	closer io.Closer // nil while it could not be opened
	err    error     // why
}

// forwards are the ports of one machine on the host.
type forwards struct {
	ctx   context.Context
	hub   *hub
	m     vswitch.Machine
	conns chan struct{} // slots of TCP connections

	mu     sync.Mutex // guards what follows
	open   map[place]*forward
	closed bool
}

func newForwards(ctx context.Context, h *hub, m vswitch.Machine) *forwards {
	return &forwards{ctx: ctx, hub: h, m: m, conns: make(chan struct{}, maxConns), open: map[place]*forward{}}
}

// must opens a port that is part of every machine.
func (f *forwards) must(proto string, host, guest uint16) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := place{proto, netip.AddrPortFrom(f.m.HostIP, host)}
	w := &forward{guest: guest, fixed: true}
	if f.start(p, w); w.err != nil {
		return w.err
	}
	f.open[p] = w
	return nil
}

// publish makes the guest's published ports those in the list: it closes what is no longer wanted and opens what is new.
func (f *forwards) publish(ports []config.Port) {
	want := f.wanted(ports)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	for p, w := range f.open {
		if guest, keep := want[p]; !w.fixed && (!keep || guest != w.guest) {
			f.end(p, w)
		}
	}
	for p, guest := range want {
		if f.open[p] == nil {
			w := &forward{guest: guest}
			f.start(p, w)
			f.open[p] = w
			f.report(p, w)
		}
	}
}

// wanted lists where ports are to appear: on the machine's own address and on localhost. A port bound to loopback in the machine
// is among them: the engine lets the gateway, and nobody else, through to it, and no address here is reachable from elsewhere.
func (f *forwards) wanted(ports []config.Port) map[place]uint16 {
	if len(ports) > maxPublished {
		f.hub.log.Warn("too many ports", "machine", f.m.Name, "published", len(ports), "forwarded", maxPublished)
		ports = ports[:maxPublished]
	}
	want := map[place]uint16{}
	for _, p := range ports {
		if err := f.reachable(p); err != nil {
			f.hub.log.Warn("not forwarded", "machine", f.m.Name, "proto", p.Proto, "port", p.Port, "err", err)
			continue
		}
		for _, a := range []netip.Addr{f.m.HostIP, localhost} {
			want[place{p.Proto, netip.AddrPortFrom(a, p.Port)}] = p.Port
		}
	}
	return want
}

// reachable tells why a port of the guest cannot be forwarded.
func (f *forwards) reachable(p config.Port) error {
	if p.Proto != "tcp" && p.Proto != "udp" {
		return fmt.Errorf("protocol %q is not tcp or udp", p.Proto)
	}
	if p.Port == 0 {
		return errors.New("no port is named")
	}
	a, err := netip.ParseAddr(p.IP)
	if p.IP != "" && err != nil {
		return fmt.Errorf("%q is not an address", p.IP)
	}
	if p.IP == "" || a.IsUnspecified() || a.IsLoopback() || a == lan.IP(f.m.Index) {
		return nil
	}
	return fmt.Errorf("it is bound to %s, which leads to another network of the machine", a)
}

// start opens one forward, or leaves in it why not. f.mu is held.
func (f *forwards) start(p place, w *forward) {
	var err error
	switch p.proto {
	case "tcp":
		w.closer, err = f.serveTCP(p.host, w.guest)
	case "udp":
		w.closer, err = f.serveUDP(p.host, w.guest)
	}
	if w.err = err; err != nil {
		w.closer = nil
		w.err = fmt.Errorf("%s port %s on the host: %w%s", p.proto, p.host, cause(err), advice(err, p.host.Port()))
	}
}

// end closes one forward. f.mu is held.
func (f *forwards) end(p place, w *forward) {
	if w.closer != nil {
		w.closer.Close()
	}
	delete(f.open, p)
}

func (f *forwards) report(p place, w *forward) {
	if w.err == nil {
		f.hub.log.Info("port opened", "machine", f.m.Name, "proto", p.proto, "host", p.host, "port", w.guest)
		return
	}
	f.hub.log.Warn("port not opened", "machine", f.m.Name, "err", w.err)
}

// retry tries again to open what could not be opened.
func (f *forwards) retry() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p, w := range f.open {
		if w.closer == nil && !f.closed {
			if f.start(p, w); w.err == nil {
				f.report(p, w)
			}
		}
	}
}

// list describes all forwards, ordered.
func (f *forwards) list() []vswitch.Forward {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := []vswitch.Forward{}
	for p, w := range f.open {
		x := vswitch.Forward{Proto: p.proto, Host: p.host.String(), Guest: w.guest}
		if w.err != nil {
			x.Error = w.err.Error()
		}
		l = append(l, x)
	}
	slices.SortFunc(l, func(a, b vswitch.Forward) int {
		return cmp.Or(cmp.Compare(a.Guest, b.Guest), strings.Compare(a.Proto, b.Proto), strings.Compare(a.Host, b.Host))
	})
	return l
}

// close ends all forwards for good.
func (f *forwards) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for p, w := range f.open {
		f.end(p, w)
	}
}

// advice says why a port could not be opened where the system's words do not.
func advice(err error, port uint16) string {
	if errors.Is(err, fs.ErrPermission) && port < 1024 {
		return " (ports below 1024 are root's, see net.ipv4.ip_unprivileged_port_start)"
	}
	return ""
}

// cause strips the wrapping that repeats the address.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func (f *forwards) guest(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(lan.IP(f.m.Index), port)
}

func (f *forwards) dialTCP(ctx context.Context, port uint16) (vnet.HalfCloser, error) {
	return f.hub.net.DialTCP(ctx, f.guest(port))
}
