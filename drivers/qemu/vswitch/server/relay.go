package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/getberth/berth/drivers/qemu/vnet"
)

const (
	maxConns  = 2048             // TCP connections to one machine at a time
	maxFlows  = 512              // UDP clients of one published port at a time
	dialLimit = 10 * time.Second // for a connection into a machine
)

// serveTCP forwards connections to a port of the machine until it is closed; connections that are open then live on, as they do
// when a server closes its listener, but not longer than the machine.
func (f *forwards) serveTCP(host netip.AddrPort, guest uint16) (io.Closer, error) {
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(host))
	if err != nil {
		return nil, err
	}
	go func() {
		broken := rate.NewLimiter(rate.Every(100*time.Millisecond), 1) // e.g. out of file descriptors
		for {
			c, err := l.AcceptTCP()
			switch {
			case err == nil:
				f.take(c, guest)
			case errors.Is(err, net.ErrClosed) || broken.Wait(f.ctx) != nil:
				return
			}
		}
	}()
	return l, nil
}

// take forwards one connection, or refuses it when there are too many.
func (f *forwards) take(c *net.TCPConn, guest uint16) {
	select {
	case f.conns <- struct{}{}:
		go func() {
			defer func() { <-f.conns }()
			f.carry(c, guest)
		}()
	default:
		reset(c)
	}
}

func (f *forwards) carry(c *net.TCPConn, guest uint16) {
	ctx, cancel := context.WithTimeout(f.ctx, dialLimit)
	defer cancel()
	g, err := f.dialTCP(ctx, guest)
	if err != nil {
		reset(c)
		return
	}
	stop := context.AfterFunc(f.ctx, func() { reset(c); g.Close() })
	defer stop()
	vnet.Splice(c, g)
}

// reset closes a connection so that its client sees an error rather than an orderly end.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// udpServer forwards the datagrams of each client to a port of the machine, and the answers back.
type udpServer struct {
	conn *net.UDPConn
	dial func() (net.Conn, error)

	mu    sync.Mutex
	flows map[netip.AddrPort]*udpFlow // guarded by mu
}

// serveUDP forwards datagrams until it is closed.
func (f *forwards) serveUDP(host netip.AddrPort, guest uint16) (io.Closer, error) {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(host))
	if err != nil {
		return nil, err
	}
	s := &udpServer{conn: c, flows: map[netip.AddrPort]*udpFlow{}}
	s.dial = func() (net.Conn, error) { return f.hub.net.DialUDP(f.guest(guest)) }
	go s.serve(f.ctx)
	return s, nil
}

func (s *udpServer) serve(ctx context.Context) {
	defer s.Close()
	broken := rate.NewLimiter(rate.Every(10*time.Millisecond), 100) // Windows reports what earlier answers met
	buf := make([]byte, 64<<10)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		switch {
		case err == nil:
			if fl := s.flow(from); fl != nil {
				fl.touch()
				fl.guest.Write(buf[:n])
			}
		case errors.Is(err, net.ErrClosed) || broken.Wait(ctx) != nil:
			return
		}
	}
}

// udpFlow is one client's.
type udpFlow struct {
	guest net.Conn
}

// touch keeps the flow for another while.
func (fl *udpFlow) touch() { fl.guest.SetReadDeadline(time.Now().Add(vnet.UDPIdle)) }

// flow returns a client's flow, made if it is new; nil when there are too many.
func (s *udpServer) flow(from netip.AddrPort) *udpFlow {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fl := s.flows[from]; fl != nil {
		return fl
	}
	if s.flows == nil || len(s.flows) >= maxFlows {
		return nil
	}
	g, err := s.dial()
	if err != nil {
		return nil
	}
	fl := &udpFlow{guest: g}
	s.flows[from] = fl
	go s.answer(fl, from)
	return fl
}

// answer carries the machine's answers to one client until none has come, and nothing been asked, for vnet.UDPIdle.
func (s *udpServer) answer(fl *udpFlow, to netip.AddrPort) {
	defer func() {
		fl.guest.Close()
		s.mu.Lock()
		delete(s.flows, to)
		s.mu.Unlock()
	}()
	buf := make([]byte, 64<<10)
	fl.touch()
	for {
		n, err := fl.guest.Read(buf)
		if err != nil {
			return
		}
		fl.touch()
		if _, err := s.conn.WriteToUDPAddrPort(buf[:n], to); errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// Close ends the forward and all its flows.
func (s *udpServer) Close() error {
	err := s.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fl := range s.flows {
		fl.guest.Close()
	}
	s.flows = nil
	return err
}
