package network

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"
)

func deadline() time.Time { return time.Now().Add(patience) }

// lookup asks the container's resolver, as its libc would.
func (b *box) lookup(proto, name string, kind uint16) (answers []string, rcode string) {
	b.t.Helper()
	var conn net.Conn
	must(b.t, inNamespace(b.path, func() (err error) {
		// Dial a socket by hand: net.Dial might use another thread.
		typ := unix.SOCK_DGRAM
		if proto == "tcp" {
			typ = unix.SOCK_STREAM
		}
		fd, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), proto)
		defer f.Close()
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: resolverAddr().As4(), Port: dnsPort}); err != nil {
			return err
		}
		conn, err = net.FileConn(f)
		return err
	}))
	defer conn.Close()
	must(b.t, conn.SetDeadline(deadline()))
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	c := dns.Conn{Conn: conn}
	must(b.t, c.WriteMsg(query))
	reply, err := c.ReadMsg()
	must(b.t, err)
	for _, rr := range reply.Answer {
		fields := strings.Fields(rr.String())
		answers = append(answers, fields[len(fields)-1])
	}
	slices.Sort(answers)
	return answers, dns.RcodeToString[reply.Rcode]
}

func TestNames(t *testing.T) {
	e := start(t, func(c *Config) { c.DNS = []netip.Addr{netip.MustParseAddr("127.0.0.9")} }) // nobody is there
	_, err := e.Create(t.Context(), network.CreateRequest{Name: "net"})
	must(t, err)
	_, err = e.Create(t.Context(), network.CreateRequest{Name: "far"})
	must(t, err)
	web, db := e.run("web", "net"), e.run("db")
	db.connect("net", nil, "db", "shared", "Postgres")
	other := e.run("other")
	other.connect("net", &network.EndpointSettings{Links: []string{"db:database"}}, "other", "shared")
	far := e.run("far", "far")
	plain := e.run("plain", "bridge")

	a := func(b *box) string { return b.addr().String() }
	for _, test := range []struct {
		from  *box
		name  string
		kind  uint16
		want  []string
		rcode string
	}{
		{web, "db", dns.TypeA, []string{a(db)}, "NOERROR"},
		{web, "DB", dns.TypeA, []string{a(db)}, "NOERROR"},
		{web, "db.net", dns.TypeA, []string{a(db)}, "NOERROR"},
		{web, "postgres", dns.TypeA, []string{a(db)}, "NOERROR"},
		{web, shortID(db.id), dns.TypeA, []string{a(db)}, "NOERROR"},
		{web, "shared", dns.TypeA, []string{a(db), a(other)}, "NOERROR"},
		{web, "web", dns.TypeA, []string{a(web)}, "NOERROR"},
		{web, "db", dns.TypeAAAA, nil, "NOERROR"},
		{web, "db", dns.TypeMX, nil, "NOERROR"},
		{web, "database", dns.TypeA, nil, "SERVFAIL"},
		{other, "database", dns.TypeA, []string{a(db)}, "NOERROR"},
		{web, "far", dns.TypeA, nil, "SERVFAIL"},
		{web, "plain", dns.TypeA, nil, "SERVFAIL"},
		{far, "db", dns.TypeA, nil, "SERVFAIL"},
	} {
		for _, proto := range []string{"udp", "tcp"} {
			got, rcode := test.from.lookup(proto, test.name, test.kind)
			slices.Sort(test.want)
			if !slices.Equal(got, test.want) || rcode != test.rcode {
				t.Errorf("%s %s %s: got %v %s; want %v %s", proto, test.name, dns.TypeToString[test.kind], got, rcode, test.want, test.rcode)
			}
		}
	}
	reverse, err := dns.ReverseAddr(a(db))
	must(t, err)
	if got, _ := web.lookup("udp", reverse, dns.TypePTR); !slices.Equal(got, []string{"db.net."}) {
		t.Errorf("PTR of %s: got %v", a(db), got)
	}

	must(t, e.Rename(t.Context(), db.id, "db", "sql"))
	if got, _ := web.lookup("udp", "sql", dns.TypeA); !slices.Equal(got, []string{a(db)}) {
		t.Errorf("after a rename: got %v", got)
	}
	must(t, e.Disconnect(t.Context(), other.id, "net", false))
	if got, _ := web.lookup("udp", "shared", dns.TypeA); !slices.Equal(got, []string{a(db)}) {
		t.Errorf("after a disconnect: got %v", got)
	}
	if plainBox := e.sandboxes[plain.id]; plainBox.resolver != nil {
		t.Error("the default network has a resolver")
	}
}

// The resolver leaves port 53 to the container.
func TestContainerServesNamesItself(t *testing.T) {
	e := start(t)
	_, err := e.Create(t.Context(), network.CreateRequest{Name: "net"})
	must(t, err)
	b := e.run("b", "net")
	b.serveUDP(53, "own")
	b.serveTCP(53, "own")
	expect(t, b.ask, "udp", "127.0.0.1:53", "127.0.0.1 own")
	if got, _ := b.lookup("udp", "b", dns.TypeA); len(got) != 1 {
		t.Errorf("got %v; want the container's own address", got)
	}
}

// upstream is a resolver on the host.
func upstream(t *testing.T, addr string) {
	t.Helper()
	packets, err := net.ListenPacket("udp4", addr+":53")
	must(t, err)
	ln, err := net.Listen("tcp4", addr+":53")
	must(t, err)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR(q.Question[0].Name + " 60 IN A 192.0.2.1")
		if q.Question[0].Name == "big.example." {
			for range 100 {
				m.Answer = append(m.Answer, dns.Copy(rr))
			}
		}
		m.Answer = append(m.Answer, rr)
		if _, ok := w.RemoteAddr().(*net.UDPAddr); ok {
			m.Truncate(dns.MinMsgSize)
		}
		_ = w.WriteMsg(m)
	})
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: ln, Handler: handler}} {
		go s.ActivateAndServe()
		t.Cleanup(func() { s.Shutdown() })
	}
}

func TestNamesOfOthers(t *testing.T) {
	e := start(t, func(c *Config) {
		c.DNS = []netip.Addr{netip.MustParseAddr("127.0.0.8"), netip.MustParseAddr("127.0.0.9")}
	})
	upstream(t, "127.0.0.9") // the first one is not there
	for _, req := range []network.CreateRequest{{Name: "net"}, {Name: "inner", Internal: true}} {
		_, err := e.Create(t.Context(), req)
		must(t, err)
	}
	web, inner := e.run("web", "net"), e.run("inner", "inner")
	if got, rcode := web.lookup("udp", "example.org", dns.TypeA); !slices.Equal(got, []string{"192.0.2.1"}) {
		t.Errorf("got %v %s", got, rcode)
	}
	if got, rcode := web.lookup("tcp", "big.example", dns.TypeA); len(got) != 101 {
		t.Errorf("over TCP: got %d answers, %s", len(got), rcode)
	}
	if got, rcode := inner.lookup("udp", "example.org", dns.TypeA); rcode != "SERVFAIL" {
		t.Errorf("in an internal network: got %v %s", got, rcode)
	}
	must(t, func() error {
		_, err := e.ResolvConf(t.Context(), web.id, []netip.Addr{netip.MustParseAddr("127.0.0.8")}, nil, nil)
		return err
	}())
	if _, rcode := web.lookup("udp", "example.org", dns.TypeA); rcode != "SERVFAIL" {
		t.Errorf("with resolvers of its own: got %s", rcode)
	}
}

func TestResolvConf(t *testing.T) {
	e := start(t)
	_, err := e.Create(t.Context(), network.CreateRequest{Name: "net"})
	must(t, err)
	named, plain, host := e.run("named", "net"), e.run("plain", "bridge"), &box{t: t, id: randomID(), e: e}
	host.connect("host", nil)
	asked := []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	for _, test := range []struct {
		b    *box
		want string
	}{
		{named, "nameserver 127.0.0.11\nsearch a.example b.example\noptions rotate ndots:0\n"},
		{plain, "nameserver 192.0.2.53\nsearch a.example b.example\noptions rotate\n"},
		{host, "nameserver 192.0.2.53\nsearch a.example b.example\noptions rotate\n"},
	} {
		got, err := e.ResolvConf(t.Context(), test.b.id, asked, []string{"a.example", "b.example"}, []string{"rotate"})
		must(t, err)
		if string(got) != test.want {
			t.Errorf("got %q; want %q", got, test.want)
		}
	}
}
