package proxy

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// idleTimeout ends a client's session; the kernel's NAT forgets a stream of datagrams after 120 s too
	// (nf_conntrack_udp_timeout_stream).
	idleTimeout = 120 * time.Second
	// maxSessions bounds the clients of one port: each costs a socket.
	maxSessions = 1024
	maxDatagram = 65535
	controlSize = 64 // room for one IP_PKTINFO or IPV6_PKTINFO message
)

type udpProxy struct {
	target
	conn *net.UDPConn
	wg   sync.WaitGroup

	mu       sync.Mutex // guards all below
	sessions map[netip.AddrPort]*session
	closed   bool
}

// session is one client's socket to the target. Replies leave from the address that the client sent to.
type session struct {
	conn    *net.UDPConn
	control []byte // pktinfo of the client's first datagram
}

// ListenUDP takes a port of the host; port 0 means any.
func ListenUDP(at netip.AddrPort) (Proxy, error) {
	conn, err := net.ListenUDP(network("udp", at), net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	if err := wantPacketInfo(conn, at.Addr().Is4()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	p := &udpProxy{conn: conn, sessions: map[netip.AddrPort]*session{}}
	p.wg.Go(p.serve)
	return p, nil
}

func wantPacketInfo(conn *net.UDPConn, v4 bool) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	level, option := unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	if v4 {
		level, option = unix.IPPROTO_IP, unix.IP_PKTINFO
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, 1) })
	return errors.Join(err, failed)
}

func (p *udpProxy) Addr() netip.AddrPort { return addrPort(p.conn.LocalAddr()) }

// SetTarget ends the sessions with the old target.
func (p *udpProxy) SetTarget(to netip.AddrPort) {
	if old, ok := p.get(); ok && old == to {
		return
	}
	p.target.SetTarget(to)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endSessions()
}

func (p *udpProxy) endSessions() {
	for client, s := range p.sessions {
		s.conn.Close()
		delete(p.sessions, client)
	}
}

func (p *udpProxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.endSessions()
	p.mu.Unlock()
	err := p.conn.Close()
	p.wg.Wait()
	return err
}

func (p *udpProxy) serve() {
	buf := make([]byte, maxDatagram)
	control := make([]byte, controlSize)
	for {
		n, controlLen, _, client, err := p.conn.ReadMsgUDPAddrPort(buf, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier reply
		}
		if s := p.session(client, control[:controlLen]); s != nil {
			_ = s.conn.SetReadDeadline(time.Now().Add(idleTimeout))
			_, _ = s.conn.Write(buf[:n])
		}
	}
}

// session finds or makes the session of a client; nil means that the datagram is dropped.
func (p *udpProxy) session(client netip.AddrPort, control []byte) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s, ok := p.sessions[client]; ok {
		return s
	}
	to, ok := p.get()
	if !ok || p.closed || len(p.sessions) >= maxSessions {
		return nil
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return nil
	}
	s := &session{conn: conn, control: append([]byte(nil), control...)}
	p.sessions[client] = s
	p.wg.Go(func() { p.reply(client, s) })
	return s
}

// reply carries what the target answers until the session is idle or ended.
func (p *udpProxy) reply(client netip.AddrPort, s *session) {
	defer p.forget(client, s)
	buf := make([]byte, maxDatagram)
	for {
		n, err := s.conn.Read(buf)
		if errors.Is(err, unix.ECONNREFUSED) {
			continue // nobody listens there yet; the deadline ends this
		}
		if err != nil {
			return
		}
		_ = s.conn.SetReadDeadline(time.Now().Add(idleTimeout))
		if _, _, err := p.conn.WriteMsgUDPAddrPort(buf[:n], s.control, client); err != nil {
			return
		}
	}
}

func (p *udpProxy) forget(client netip.AddrPort, s *session) {
	s.conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sessions[client] == s {
		delete(p.sessions, client)
	}
}
