package vnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"github.com/getberth/berth/drivers/qemu/lan"
	"github.com/getberth/berth/guest/seed"
)

const (
	maxQueries  = 128             // answered at a time; more are dropped, and asked again by the client
	maxDNSConns = 64              // TCP connections to the DNS server at a time
	queryLimit  = 5 * time.Second // for the host's resolver, resolv.conf(5)'s own default
	hostTTL     = 10              // seconds; the host's resolver does not tell the real one
)

// maxUDPAnswer, in bytes, fits every link between us and a container without fragments. See dnsflagday.net/2020.
const maxUDPAnswer = 1232

// names knows the machines by name. Names are lower case, without a trailing dot.
type names struct {
	mu     sync.RWMutex
	byName map[string]netip.Addr // guarded by mu
	byAddr map[netip.Addr]string // guarded by mu
}

func newNames() *names {
	n := &names{}
	n.set(nil)
	return n
}

// set replaces the machines' names. The names of the host and the gateway cannot be taken.
func (n *names) set(machines map[string]netip.Addr) {
	byName, byAddr := map[string]netip.Addr{}, map[netip.Addr]string{}
	for name, a := range machines {
		name = strings.ToLower(name)
		byName[name+"."+seed.Domain] = a
		byAddr[a] = name + "." + seed.Domain
		if !strings.Contains(name, ".") { // a machine called example.com must not hide the real one
			byName[name] = a
		}
	}
	for _, h := range []string{"host." + seed.Domain, "host.docker.internal"} {
		byName[h] = lan.Host()
	}
	for _, g := range []string{"gateway." + seed.Domain, "gateway.docker.internal"} {
		byName[g] = lan.Gateway()
	}
	byAddr[lan.Host()], byAddr[lan.Gateway()] = "host."+seed.Domain, "gateway."+seed.Domain
	n.mu.Lock()
	n.byName, n.byAddr = byName, byAddr
	n.mu.Unlock()
}

// answer answers a question about a name of ours; ok is false for all others.
func (n *names) answer(q dns.Question) (rrs []dns.RR, rcode int, ok bool) {
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	n.mu.RLock()
	defer n.mu.RUnlock()
	if a, found := n.byName[name]; found {
		if q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY {
			rrs = append(rrs, &dns.A{Hdr: rrHeader(q.Name, dns.TypeA, 0), A: a.AsSlice()})
		}
		return rrs, dns.RcodeSuccess, true
	}
	if name == seed.Domain || strings.HasSuffix(name, "."+seed.Domain) {
		return nil, dns.RcodeNameError, true
	}
	if a, isArpa := reverseAddr(name); isArpa && lan.Subnet().Contains(a) {
		known, found := n.byAddr[a]
		if !found {
			return nil, dns.RcodeNameError, true
		}
		if q.Qtype == dns.TypePTR || q.Qtype == dns.TypeANY {
			rrs = append(rrs, &dns.PTR{Hdr: rrHeader(q.Name, dns.TypePTR, 0), Ptr: known + "."})
		}
		return rrs, dns.RcodeSuccess, true
	}
	return nil, 0, false
}

// reverseAddr reads a name such as 5.127.168.192.in-addr.arpa.
func reverseAddr(name string) (netip.Addr, bool) {
	s, ok := strings.CutSuffix(name, ".in-addr.arpa")
	l := strings.Split(s, ".")
	if !ok || len(l) != 4 {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(l[3] + "." + l[2] + "." + l[1] + "." + l[0])
	return a, err == nil && a.Is4()
}

func rrHeader(name string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// startDNS serves the names of machines, and for all others what the host's resolver says.
func (n *Network) startDNS() error {
	at := tcpip.FullAddress{NIC: nic, Addr: address(lan.Gateway()), Port: 53}
	pc, err := gonet.DialUDP(n.stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		return fmt.Errorf("starting DNS: %w", err)
	}
	l, err := gonet.ListenTCP(n.stack, at, ipv4.ProtocolNumber)
	if err != nil {
		pc.Close()
		return fmt.Errorf("starting DNS: %w", err)
	}
	h := &resolver{names: n.names, slots: make(chan struct{}, maxQueries), upstream: net.DefaultResolver}
	n.close = append(n.close, func() { pc.Close(); l.Close() })
	go (&dns.Server{PacketConn: pc, Handler: h}).ActivateAndServe()
	go (&dns.Server{Listener: limitListener(l, maxDNSConns), Handler: h, ReadTimeout: queryLimit,
		IdleTimeout: func() time.Duration { return queryLimit }}).ActivateAndServe()
	return nil
}

// resolver answers DNS queries of guests.
type resolver struct {
	names    *names
	slots    chan struct{}
	upstream *net.Resolver
}

// ServeDNS implements dns.Handler.
func (s *resolver) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	limited(s.slots, func() { s.serve(w, r) }, func() {})
}

func (s *resolver) serve(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(r)
	m.RecursionAvailable = true
	if r.Opcode != dns.OpcodeQuery || len(r.Question) != 1 || r.Question[0].Qclass != dns.ClassINET {
		m.Rcode = dns.RcodeNotImplemented
	} else {
		m.Answer, m.Rcode = s.resolve(r.Question[0])
	}
	m.Truncate(answerSize(w, r))
	w.WriteMsg(m)
}

func answerSize(w dns.ResponseWriter, r *dns.Msg) int {
	if w.LocalAddr().Network() == "tcp" {
		return dns.MaxMsgSize
	}
	size := dns.MinMsgSize
	if e := r.IsEdns0(); e != nil {
		size = min(max(size, int(e.UDPSize())), maxUDPAnswer)
	}
	return size
}

func (s *resolver) resolve(q dns.Question) ([]dns.RR, int) {
	if rrs, rcode, ok := s.names.answer(q); ok {
		return rrs, rcode
	}
	ctx, cancel := context.WithTimeout(context.Background(), queryLimit)
	defer cancel()
	asked := q
	if name := strings.TrimSuffix(q.Name, "."); !strings.Contains(name, ".") {
		asked.Name = name // for the host's hosts file and search list
	}
	rrs, err := s.ask(ctx, asked)
	for _, rr := range rrs {
		rr.Header().Name = q.Name
	}
	if err == nil {
		return rrs, dns.RcodeSuccess
	}
	if de, ok := err.(*net.DNSError); ok && de.IsNotFound {
		return nil, s.missing(ctx, q)
	}
	return nil, dns.RcodeServerFailure
}

// missing tells a name without records of this type from a name that does not exist: the host's resolver reports both alike.
func (s *resolver) missing(ctx context.Context, q dns.Question) int {
	if q.Qtype == dns.TypeA {
		if a, err := s.upstream.LookupNetIP(ctx, "ip6", q.Name); err == nil && len(a) > 0 {
			return dns.RcodeSuccess
		}
		return dns.RcodeNameError
	}
	if q.Qtype == dns.TypePTR {
		return dns.RcodeNameError
	}
	return dns.RcodeSuccess
}

// ask puts a question to the host's resolver, which knows its hosts file, VPNs and search rules better than we. AAAA is
// answered with nothing: guests have no way to an IPv6 address.
func (s *resolver) ask(ctx context.Context, q dns.Question) (rrs []dns.RR, err error) {
	add := func(rr dns.RR) { rrs = append(rrs, rr) }
	h := rrHeader(q.Name, q.Qtype, hostTTL)
	switch q.Qtype {
	case dns.TypeA:
		var as []netip.Addr
		as, err = s.upstream.LookupNetIP(ctx, "ip4", q.Name)
		for _, a := range as {
			add(&dns.A{Hdr: h, A: a.Unmap().AsSlice()})
		}
	case dns.TypeCNAME:
		var c string
		if c, err = s.upstream.LookupCNAME(ctx, q.Name); err == nil && !strings.EqualFold(c, q.Name) {
			add(&dns.CNAME{Hdr: h, Target: c})
		}
	case dns.TypeMX:
		var l []*net.MX
		l, err = s.upstream.LookupMX(ctx, q.Name)
		for _, r := range l {
			add(&dns.MX{Hdr: h, Mx: r.Host, Preference: r.Pref})
		}
	case dns.TypeNS:
		var l []*net.NS
		l, err = s.upstream.LookupNS(ctx, q.Name)
		for _, r := range l {
			add(&dns.NS{Hdr: h, Ns: r.Host})
		}
	case dns.TypeSRV:
		var l []*net.SRV
		_, l, err = s.upstream.LookupSRV(ctx, "", "", q.Name)
		for _, r := range l {
			add(&dns.SRV{Hdr: h, Target: r.Target, Port: r.Port, Priority: r.Priority, Weight: r.Weight})
		}
	case dns.TypeTXT:
		var l []string
		l, err = s.upstream.LookupTXT(ctx, q.Name)
		for _, t := range l {
			add(&dns.TXT{Hdr: h, Txt: chunks(t, 255)})
		}
	case dns.TypePTR:
		a, ok := reverseAddr(strings.ToLower(strings.TrimSuffix(q.Name, ".")))
		if !ok {
			return nil, nil
		}
		var l []string
		l, err = s.upstream.LookupAddr(ctx, a.String())
		for _, p := range l {
			add(&dns.PTR{Hdr: h, Ptr: dns.Fqdn(p)})
		}
	}
	return rrs, err
}

// chunks cuts a text into the strings of at most n bytes that a TXT record is made of.
func chunks(s string, n int) (out []string) {
	for len(s) > n {
		out, s = append(out, s[:n]), s[n:]
	}
	return append(out, s)
}
