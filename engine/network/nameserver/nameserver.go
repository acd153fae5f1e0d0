// Package nameserver answers the DNS queries of one container: names of its networks from a Zone, all else from other
// resolvers. Queries come from a container and answers from the network: both are hostile.
package nameserver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// localTTL is the time in seconds that clients may keep a container's address. Containers come and go.
	localTTL = 600
	// maxQueries bounds the queries that wait for another resolver; more are refused at once.
	maxQueries = 128
	// serverTimeout is for one try of one resolver. Clients give up after 5 s by default (resolv.conf(5), timeout).
	serverTimeout = 2 * time.Second
	totalTimeout  = 4500 * time.Millisecond
	udpSize       = 4096
	idleTimeout   = 8 * time.Second
	maxTCPQueries = 128 // per connection
)

// Zone is what the container's networks know. Names come in lower case and without the dot at the end.
type Zone interface {
	// Lookup returns the addresses of a name; known is true also for a name that has none of a family.
	Lookup(name string) (addrs []netip.Addr, known bool)
	// Reverse returns the name of an address.
	Reverse(addr netip.Addr) (name string, known bool)
	// Servers are the resolvers for all other names, in order; none means that such names cannot be looked up.
	Servers() []netip.AddrPort
}

// Server answers on a UDP and a TCP socket.
type Server struct {
	zone   Zone
	udp    *dns.Server
	tcp    *dns.Server
	slots  chan struct{}
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Serve answers until Close. It owns both sockets.
func Serve(zone Zone, packets net.PacketConn, listener net.Listener) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{zone: zone, slots: make(chan struct{}, maxQueries), ctx: ctx, cancel: cancel}
	idle := func() time.Duration { return idleTimeout }
	s.udp = &dns.Server{PacketConn: packets, Handler: s, UDPSize: udpSize}
	s.tcp = &dns.Server{Listener: listener, Handler: s, IdleTimeout: idle, ReadTimeout: serverTimeout, MaxTCPQueries: maxTCPQueries}
	for _, server := range []*dns.Server{s.udp, s.tcp} {
		started := make(chan struct{})
		server.NotifyStartedFunc = sync.OnceFunc(func() { close(started) })
		s.wg.Go(func() {
			defer server.NotifyStartedFunc() // also when it could not start
			_ = server.ActivateAndServe()    // ends with Close
		})
		<-started // Shutdown refuses a server that has not started
	}
	return s
}

// Close ends the server and waits for its goroutines.
func (s *Server) Close() error {
	s.cancel()
	err := errors.Join(ignoreNotStarted(s.udp.Shutdown()), ignoreNotStarted(s.tcp.Shutdown()))
	s.wg.Wait()
	return err
}

func ignoreNotStarted(err error) error {
	var e *dns.Error
	if errors.As(err, &e) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// ServeDNS implements dns.Handler.
func (s *Server) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	_, overTCP := w.RemoteAddr().(*net.TCPAddr)
	reply := s.answer(query, overTCP)
	if !overTCP {
		reply.Truncate(replySize(query))
	}
	_ = w.WriteMsg(reply) // the client asks again
}

// replySize is what the client can take over UDP.
func replySize(query *dns.Msg) int {
	if opt := query.IsEdns0(); opt != nil {
		return min(max(int(opt.UDPSize()), dns.MinMsgSize), udpSize)
	}
	return dns.MinMsgSize
}

func (s *Server) answer(query *dns.Msg, overTCP bool) *dns.Msg {
	if query.Opcode != dns.OpcodeQuery || len(query.Question) != 1 {
		return fail(query, dns.RcodeNotImplemented)
	}
	if reply := s.local(query); reply != nil {
		return reply
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return fail(query, dns.RcodeRefused)
	}
	return s.forward(query, overTCP)
}

func fail(query *dns.Msg, rcode int) *dns.Msg {
	reply := new(dns.Msg).SetRcode(query, rcode)
	reply.RecursionAvailable = true
	return reply
}

// local answers from the zone; nil means that the zone does not know the name.
func (s *Server) local(query *dns.Msg) *dns.Msg {
	q := query.Question[0]
	if q.Qclass != dns.ClassINET {
		return nil
	}
	if q.Qtype == dns.TypePTR {
		return s.reverse(query)
	}
	addrs, known := s.zone.Lookup(strings.ToLower(strings.TrimSuffix(q.Name, ".")))
	if !known {
		return nil
	}
	reply := fail(query, dns.RcodeSuccess)
	for _, a := range addrs {
		header := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Ttl: localTTL}
		switch {
		case a.Is4() && q.Qtype == dns.TypeA:
			header.Rrtype = dns.TypeA
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: a.AsSlice()})
		case a.Is6() && q.Qtype == dns.TypeAAAA:
			header.Rrtype = dns.TypeAAAA
			reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: header, AAAA: a.AsSlice()})
		}
	}
	return reply
}

func (s *Server) reverse(query *dns.Msg) *dns.Msg {
	q := query.Question[0]
	addr, ok := parseReverse(q.Name)
	if !ok {
		return nil
	}
	name, known := s.zone.Reverse(addr)
	if !known {
		return nil
	}
	reply := fail(query, dns.RcodeSuccess)
	header := dns.RR_Header{Name: q.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: localTTL}
	reply.Answer = []dns.RR{&dns.PTR{Hdr: header, Ptr: dns.Fqdn(name)}}
	return reply
}

// parseReverse reads a name below in-addr.arpa or ip6.arpa.
func parseReverse(name string) (netip.Addr, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if v4, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(v4, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
		return a, err == nil && a.Is4()
	}
	v6, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(v6) != 63 { // 32 digits and the dots between them
		return netip.Addr{}, false
	}
	var text strings.Builder
	for i := 62; i >= 0; i -= 2 {
		if i > 0 && v6[i-1] != '.' {
			return netip.Addr{}, false
		}
		text.WriteByte(v6[i])
		if i%8 == 0 && i > 0 {
			text.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(text.String())
	return a, err == nil && a.Is6() && a.Zone() == ""
}
