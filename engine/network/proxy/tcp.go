// Package proxy carries published ports in user space: for addresses that the kernel's NAT does not cover (IPv6 to an IPv4
// container) and for hosts without it. Its listening sockets are also what reserves the port.
package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dialTimeout = 10 * time.Second
	// maxConns bounds the connections of one port; more wait in the listener's queue.
	maxConns = 4096
	// retryAccept is how long to wait when the process has no file descriptor left.
	retryAccept = 100 * time.Millisecond
)

// Proxy is a published port. Without a target it holds the port, and closes connections.
type Proxy interface {
	// SetTarget says where new connections go; an invalid target means nowhere.
	SetTarget(netip.AddrPort)
	Addr() netip.AddrPort // where it listens
	// Close ends it, with all its connections, and waits for its goroutines.
	Close() error
}

type target struct {
	p atomic.Pointer[netip.AddrPort]
}

func (t *target) SetTarget(a netip.AddrPort) { t.p.Store(&a) }

func (t *target) get() (netip.AddrPort, bool) {
	a := t.p.Load()
	if a == nil {
		return netip.AddrPort{}, false
	}
	return *a, a.IsValid()
}

type tcpProxy struct {
	target
	ln     *net.TCPListener
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	slots  chan struct{}
	wg     sync.WaitGroup
}

// ListenTCP takes a port of the host; port 0 means any.
func ListenTCP(at netip.AddrPort) (Proxy, error) {
	ln, err := net.ListenTCP(network("tcp", at), net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &tcpProxy{ln: ln, ctx: ctx, cancel: cancel, slots: make(chan struct{}, maxConns)}
	p.wg.Go(p.serve)
	return p, nil
}

// network keeps an IPv6 socket from taking the IPv4 port too.
func network(proto string, at netip.AddrPort) string {
	if at.Addr().Is4() {
		return proto + "4"
	}
	return proto + "6"
}

func (p *tcpProxy) Addr() netip.AddrPort { return addrPort(p.ln.Addr()) }

func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func (p *tcpProxy) Close() error {
	p.cancel()
	err := p.ln.Close()
	p.wg.Wait()
	return err
}

func (p *tcpProxy) serve() {
	for {
		select {
		case p.slots <- struct{}{}:
		case <-p.ctx.Done():
			return
		}
		conn, err := p.ln.AcceptTCP()
		if err != nil {
			<-p.slots
			if errors.Is(err, net.ErrClosed) {
				return
			}
			p.pause()
			continue
		}
		p.wg.Go(func() {
			defer func() { <-p.slots }()
			p.carry(conn)
		})
	}
}

func (p *tcpProxy) pause() {
	timer := time.NewTimer(retryAccept)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.ctx.Done():
	}
}

func (p *tcpProxy) carry(client *net.TCPConn) {
	defer client.Close()
	to, ok := p.get()
	if !ok {
		return
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(p.ctx, "tcp", to.String())
	if err != nil {
		_ = client.SetLinger(0) // a reset tells the client that nobody answers
		return
	}
	defer conn.Close()
	server := conn.(*net.TCPConn)
	stop := context.AfterFunc(p.ctx, func() {
		client.Close()
		server.Close()
	})
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { stream(server, client) })
	both.Go(func() { stream(client, server) })
	both.Wait()
}

// stream copies one direction and passes on its end.
func stream(dst, src *net.TCPConn) {
	if _, err := io.Copy(dst, src); err != nil {
		// Neither direction is of use any more.
		dst.Close()
		src.Close()
		return
	}
	_ = dst.CloseWrite()
}
