package nameserver

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// fake is a zone of one name.
type fake struct{ servers []netip.AddrPort }

func (f *fake) Lookup(name string) ([]netip.Addr, bool) {
	switch name {
	case "web":
		return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, true
	case "many":
		return slices.Repeat([]netip.Addr{netip.MustParseAddr("192.0.2.1")}, 500), true
	}
	return nil, false
}

func (f *fake) Reverse(a netip.Addr) (string, bool) {
	return "web.net", a == netip.MustParseAddr("192.0.2.1") || a == netip.MustParseAddr("2001:db8::1")
}

func (f *fake) Servers() []netip.AddrPort { return f.servers }

func serve(t *testing.T, zone Zone) string {
	t.Helper()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp4", packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(zone, packets, ln)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return packets.LocalAddr().String()
}

func query(t *testing.T, proto, at, name string, kind uint16) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: proto, Timeout: 10 * time.Second}
	reply, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, kind), at)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestLocalNames(t *testing.T) {
	at := serve(t, &fake{})
	for _, test := range []struct {
		name  string
		kind  uint16
		want  string
		rcode int
	}{
		{"web.", dns.TypeA, "192.0.2.1", dns.RcodeSuccess},
		{"WEB.", dns.TypeAAAA, "2001:db8::1", dns.RcodeSuccess},
		{"web.", dns.TypeTXT, "", dns.RcodeSuccess},
		{"1.2.0.192.in-addr.arpa.", dns.TypePTR, "web.net.", dns.RcodeSuccess},
		{"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", dns.TypePTR, "web.net.", dns.RcodeSuccess},
		{"9.2.0.192.in-addr.arpa.", dns.TypePTR, "", dns.RcodeServerFailure},
		{"other.", dns.TypeA, "", dns.RcodeServerFailure},
	} {
		reply := query(t, "udp", at, test.name, test.kind)
		var got []string
		for _, rr := range reply.Answer {
			fields := strings.Fields(rr.String())
			got = append(got, fields[len(fields)-1])
		}
		if strings.Join(got, " ") != test.want || reply.Rcode != test.rcode || !reply.RecursionAvailable {
			t.Errorf("%s %d: got %v", test.name, test.kind, reply)
		}
	}
}

func TestLongRepliesAreTruncated(t *testing.T) {
	at := serve(t, &fake{})
	reply := query(t, "udp", at, "many.", dns.TypeA)
	reply.Compress = true // as it came
	if !reply.Truncated || reply.Len() > dns.MinMsgSize || len(reply.Answer) == 0 {
		t.Errorf("over UDP: %d bytes, truncated %v", reply.Len(), reply.Truncated)
	}
	if reply := query(t, "tcp", at, "many.", dns.TypeA); len(reply.Answer) != 500 {
		t.Errorf("over TCP: %d answers", len(reply.Answer))
	}
}

// A resolver that answers another question, or under another id, is not believed.
func TestForgedReplies(t *testing.T) {
	liar := func(lie func(*dns.Msg)) netip.AddrPort {
		packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			rr, _ := dns.NewRR("other. 60 IN A 203.0.113.1")
			m.Answer = []dns.RR{rr}
			lie(m)
			_ = w.WriteMsg(m)
		})}
		go s.ActivateAndServe()
		t.Cleanup(func() { s.Shutdown() })
		return packets.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	honest := liar(func(*dns.Msg) {})
	question := liar(func(m *dns.Msg) { m.Question[0].Name = "else." })
	none := liar(func(m *dns.Msg) { m.Question = nil })
	refusing := liar(func(m *dns.Msg) { m.Answer, m.Rcode = nil, dns.RcodeRefused })
	if reply := query(t, "udp", serve(t, &fake{servers: []netip.AddrPort{question, none}}), "other.", dns.TypeA); reply.Rcode != dns.RcodeServerFailure {
		t.Errorf("got %v", reply)
	}
	if reply := query(t, "udp", serve(t, &fake{servers: []netip.AddrPort{question, refusing, honest}}), "other.", dns.TypeA); len(reply.Answer) != 1 {
		t.Errorf("got %v", reply)
	}
	if reply := query(t, "udp", serve(t, &fake{servers: []netip.AddrPort{refusing}}), "other.", dns.TypeA); reply.Rcode != dns.RcodeRefused {
		t.Errorf("got %v", reply)
	}
}

func FuzzReverse(f *testing.F) {
	for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
		name, _ := dns.ReverseAddr(a)
		f.Add(name)
	}
	f.Add("....in-addr.arpa")
	f.Add(strings.Repeat("é", 31) + "a.ip6.arpa")
	f.Fuzz(func(t *testing.T, name string) {
		a, ok := parseReverse(name)
		if !ok {
			return
		}
		if back, err := dns.ReverseAddr(a.String()); err != nil || !strings.EqualFold(strings.TrimSuffix(back, "."), strings.TrimSuffix(name, ".")) {
			t.Errorf("%q is read as %s, which is %q", name, a, back)
		}
	})
}
