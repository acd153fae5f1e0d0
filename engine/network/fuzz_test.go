package network

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

func TestParseResolvConf(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"# c\nnameserver 192.0.2.1\nnameserver x\nnameserver\nsearch a b\ndomain c\noptions rotate\noptions timeout:1\n", "nameserver 192.0.2.1\nsearch c\noptions rotate timeout:1\n"},
		{"nameserver fe80::1%eth0", "nameserver fe80::1%eth0\n"},
		{"search .\n", ""},
		{"", ""},
		{strings.Repeat("nameserver 192.0.2.1\n", 20), strings.Repeat("nameserver 192.0.2.1\n", maxServers)},
	} {
		if got := string(parseResolvConf([]byte(test.text)).format()); got != test.want {
			t.Errorf("%q: got %q; want %q", test.text, got, test.want)
		}
	}
	servers := []netip.Addr{netip.MustParseAddr("127.0.0.53"), netip.MustParseAddr("::1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	if got := reachable(servers); len(got) != 1 || got[0] != servers[2] {
		t.Errorf("reachable: got %v", got)
	}
}

func TestClientWordsStayOnOneLine(t *testing.T) {
	c := resolvConf{search: []string{"a\nnameserver 192.0.2.1"}, options: []string{"x\r\ny"}}
	if got := string(c.format()); strings.Count(got, "\n") != 2 {
		t.Errorf("got %q", got)
	}
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 192.0.2.1\nsearch a b\noptions ndots:1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		once := parseResolvConf(data).format()
		if again := parseResolvConf(once).format(); len(once) < maxResolvConf && !bytes.Equal(once, again) {
			t.Errorf("%q becomes %q", once, again)
		}
	})
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":"a","name":"n","driver":"bridge","bridge":"br-a","subnet":"10.0.0.0/24","gateway":"10.0.0.1","range":"10.0.0.0/25","reserved":{"a":"10.0.0.2"}}`))
	f.Add([]byte(`{"version":1,"container":"c","endpoints":[{"network":"a","hostLink":"veth00000000000","address":"10.0.0.2/24"}],"ports":[{"proto":"tcp","hostIP":"0.0.0.0","hostPort":1,"containerPort":2}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &Service{networks: map[string]*bridgeNetwork{}, sandboxes: map[string]*sandbox{}, leaving: map[string]*leaver{}}
		var n networkRecord
		if parseRecord(data, &n) == nil {
			if live, err := s.newNetwork(n); err == nil {
				s.networks[n.ID] = live
				_ = live.view()
			}
		}
		var sb sandboxRecord
		if parseRecord(data, &sb) == nil {
			_ = s.targets(&sandbox{rec: sb})
		}
	})
}

func FuzzHostPort(f *testing.F) {
	for _, text := range []string{"", "0", "80", "8000-8010", "10-5", "70000", "80/tcp", "-"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, last, err := parseHostPort(text)
		if err == nil && (first > last || first == 0 && last != 0) {
			t.Errorf("%q: got %d to %d", text, first, last)
		}
	})
}

func FuzzOptions(f *testing.F) {
	f.Add(optMTU, "1500")
	f.Add(optBridgeName, "br0")
	f.Add(optHostBinding, "127.0.0.1")
	f.Fuzz(func(t *testing.T, name, value string) {
		o, err := parseOptions(map[string]string{name: value})
		if err != nil {
			return
		}
		if o.bridge != "" && (strings.ContainsAny(o.bridge, "/ \n") || len(o.bridge) > maxLinkName) {
			t.Errorf("%s=%s: bridge %q", name, value, o.bridge)
		}
		if o.hostBinding.IsValid() && !o.hostBinding.Is4() {
			t.Errorf("%s=%s: address %s", name, value, o.hostBinding)
		}
	})
}
