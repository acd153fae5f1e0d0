package vnet

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/getberth/berth/drivers/qemu/lan"
)

const (
	maxPending = 256              // TCP connections being opened for guests at a time
	maxConns   = 4096             // TCP connections of guests to the outside at a time
	maxFlows   = 2048             // UDP flows of guests to the outside at a time
	dialLimit  = 20 * time.Second // for a connection outwards
	// UDPIdle is after how long without a datagram a UDP flow is forgotten; RFC 4787 wants two minutes at least.
	UDPIdle = 2 * time.Minute
)

// startNAT opens a connection of the host for each that a guest opens to the outside.
func (n *Network) startNAT() {
	conns, flows := make(chan struct{}, maxConns), make(chan struct{}, maxFlows)
	t := tcp.NewForwarder(n.stack, 0, maxPending, func(r *tcp.ForwarderRequest) {
		limited(conns, func() { n.natTCP(r) }, func() { r.Complete(true) })
	})
	n.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, t.HandlePacket)
	u := udp.NewForwarder(n.stack, func(r *udp.ForwarderRequest) {
		// The packet that asks belongs to the stack only until this returns, so the endpoint is made here.
		var wq waiter.Queue
		dst := outside(r.ID().LocalAddress, r.ID().LocalPort)
		if !dst.IsValid() || len(flows) == cap(flows) {
			return
		}
		ep, err := r.CreateEndpoint(&wq)
		if err != nil {
			return
		}
		go limited(flows, func() { natUDP(gonet.NewUDPConn(&wq, ep), dst) }, ep.Close)
	})
	n.stack.SetTransportProtocolHandler(udp.ProtocolNumber, u.HandlePacket)
}

// limited runs f while it holds one of the slots, or else refuse.
func limited(slots chan struct{}, f, refuse func()) {
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
		f()
	default:
		refuse()
	}
}

// outside translates an address that a guest dials; the result is not valid for one that it must not reach. The gateway itself
// offers nothing here: its services have sockets of their own.
func outside(a tcpip.Address, port uint16) netip.AddrPort {
	ip := netip.AddrFrom4(a.As4())
	switch {
	case ip == lan.Host():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	case lan.Subnet().Contains(ip) || !routable(ip):
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, port)
}

func (n *Network) natTCP(r *tcp.ForwarderRequest) {
	dst := outside(r.ID().LocalAddress, r.ID().LocalPort)
	if !dst.IsValid() {
		r.Complete(true)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
	defer cancel()
	out, err := new(net.Dialer).DialContext(ctx, "tcp4", dst.String())
	if err != nil {
		n.log.Debug("a guest's connection", "to", dst, "err", err)
		r.Complete(true)
		return
	}
	var wq waiter.Queue
	ep, terr := r.CreateEndpoint(&wq)
	r.Complete(false)
	if terr != nil {
		out.Close()
		return
	}
	ep.SocketOptions().SetKeepAlive(true)
	Splice(gonet.NewTCPConn(&wq, ep), out.(*net.TCPConn))
}

// HalfCloser is a stream whose two directions end apart.
type HalfCloser interface {
	net.Conn
	CloseWrite() error
}

// Splice carries bytes both ways until both directions have ended, passing the end of each on, and closes both. When one
// direction breaks, rather than ends, both are closed at once.
func Splice(a, b HalfCloser) {
	defer a.Close()
	defer b.Close()
	var wg sync.WaitGroup
	wg.Go(func() { pour(a, b) })
	pour(b, a)
	wg.Wait()
}

func pour(dst, src HalfCloser) {
	_, err := io.Copy(dst, src)
	if err != nil || dst.CloseWrite() != nil {
		dst.Close()
		src.Close()
	}
}

func natUDP(in net.Conn, dst netip.AddrPort) {
	defer in.Close()
	out, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(dst))
	if err != nil {
		return
	}
	Relay(in, out)
}

// Relay carries datagrams both ways until none has come for UDPIdle, and closes both.
func Relay(a, b net.Conn) {
	a.SetReadDeadline(time.Now().Add(UDPIdle))
	b.SetReadDeadline(time.Now().Add(UDPIdle))
	var wg sync.WaitGroup
	wg.Go(func() { relay(a, b); a.Close(); b.Close() })
	relay(b, a)
	a.Close()
	b.Close()
	wg.Wait()
}

// relay carries datagrams from src to dst. Traffic one way keeps the other way open too. An error of one datagram (nobody
// listens, too long) is the sender's to find out.
func relay(dst, src net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if err != nil {
			if ne, ok := err.(net.Error); ok && !ne.Timeout() && refused(err) {
				continue
			}
			return
		}
		deadline := time.Now().Add(UDPIdle)
		src.SetReadDeadline(deadline)
		dst.SetReadDeadline(deadline)
		dst.Write(buf[:n])
	}
}
