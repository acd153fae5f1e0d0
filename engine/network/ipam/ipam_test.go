package ipam

import (
	"errors"
	"net/netip"
	"testing"
)

func TestPool(t *testing.T) {
	p := NewPool(netip.MustParsePrefix("10.0.0.0/29"), netip.Prefix{})
	next := func() string {
		a, err := p.Next()
		if err != nil {
			return err.Error()
		}
		return a.String()
	}
	if err := p.Reserve(netip.MustParseAddr("10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.0.0.2", "10.0.0.3"} {
		if got := next(); got != want {
			t.Errorf("got %s; want %s", got, want)
		}
	}
	p.Release(netip.MustParseAddr("10.0.0.2"))
	for _, want := range []string{"10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2", ErrExhausted.Error()} {
		if got := next(); got != want {
			t.Errorf("got %s; want %s", got, want)
		}
	}
	for a, want := range map[string]error{"10.0.0.3": ErrInUse, "10.0.0.8": ErrOutOfRange, "fd00::1": ErrOutOfRange} {
		if err := p.Reserve(netip.MustParseAddr(a)); !errors.Is(err, want) {
			t.Errorf("reserving %s: got %v; want %v", a, err, want)
		}
	}
}

func TestRanges(t *testing.T) {
	for _, test := range []struct{ subnet, within, first, last string }{
		{"10.0.0.0/8", "", "10.0.0.1", "10.255.255.254"},
		{"0.0.0.0/1", "", "0.0.0.1", "127.255.255.254"},
		{"10.0.0.0/30", "", "10.0.0.1", "10.0.0.2"},
		{"10.0.0.0/31", "", "10.0.0.0", "10.0.0.1"},
		{"10.0.0.0/16", "10.0.5.0/24", "10.0.5.0", "10.0.5.255"},
		{"10.0.0.0/24", "10.0.0.0/25", "10.0.0.1", "10.0.0.127"},
		{"10.0.0.0/24", "10.0.0.128/25", "10.0.0.128", "10.0.0.254"},
		{"255.255.255.0/24", "", "255.255.255.1", "255.255.255.254"},
	} {
		var within netip.Prefix
		if test.within != "" {
			within = netip.MustParsePrefix(test.within)
		}
		p := NewPool(netip.MustParsePrefix(test.subnet), within)
		if got, _ := p.Next(); got.String() != test.first {
			t.Errorf("%s %s: first is %s; want %s", test.subnet, test.within, got, test.first)
		}
		last := netip.MustParseAddr(test.last)
		p.Seek(last.Prev())
		if got, _ := p.Next(); got != last {
			t.Errorf("%s %s: last is %s; want %s", test.subnet, test.within, got, last)
		}
		p.Release(netip.MustParseAddr(test.first))
		if got, _ := p.Next(); got.String() != test.first {
			t.Errorf("%s %s: after the last comes %s; want %s", test.subnet, test.within, got, test.first)
		}
	}
}

func TestPickSubnet(t *testing.T) {
	var taken []netip.Prefix
	for range 15 + 16 {
		p, err := PickSubnet(nil, taken)
		if err != nil {
			t.Fatal(err)
		}
		if Overlaps(p, taken) {
			t.Errorf("%s overlaps", p)
		}
		taken = append(taken, p)
	}
	if got := taken[0].String() + " " + taken[14].String() + " " + taken[15].String() + " " + taken[30].String(); got != "172.17.0.0/16 172.31.0.0/16 192.168.0.0/20 192.168.240.0/20" {
		t.Errorf("got %s", got)
	}
	if _, err := PickSubnet(nil, taken); !errors.Is(err, ErrNoSubnet) {
		t.Errorf("got %v; want %v", err, ErrNoSubnet)
	}
}

func FuzzPool(f *testing.F) {
	f.Add("10.0.0.0/30", "10.0.0.0/31", "10.0.0.1", uint8(9))
	f.Add("0.0.0.0/0", "", "255.255.255.255", uint8(3))
	f.Fuzz(func(t *testing.T, subnet, within, address string, n uint8) {
		s, err := netip.ParsePrefix(subnet)
		if err != nil || !s.Addr().Is4() {
			return
		}
		w, _ := netip.ParsePrefix(within)
		if w.IsValid() && (!w.Addr().Is4() || !s.Overlaps(w) || w.Bits() < s.Bits()) {
			return
		}
		p := NewPool(s, w)
		if a, err := netip.ParseAddr(address); err == nil {
			_ = p.Reserve(a)
			p.Seek(a)
		}
		seen := map[netip.Addr]bool{}
		for range n {
			a, err := p.Next()
			if err != nil {
				break
			}
			if seen[a] || !s.Contains(a) || w.IsValid() && !w.Contains(a) || a.String() == address {
				t.Fatalf("%s of %s within %s", a, s, w)
			}
			seen[a] = true
		}
	})
}

func TestPickFromRanges(t *testing.T) {
	p := netip.MustParsePrefix
	ranges := []Range{{p("10.1.0.0/16"), 24}, {p("10.0.0.0/8"), 30}}
	for want, taken := range map[string][]netip.Prefix{
		"10.1.0.0/24": {p("10.2.0.0/16"), p("fd00::/8")},
		"10.1.2.0/24": {p("10.1.0.0/24"), p("10.1.1.128/25")},
		"10.0.0.0/30": {p("10.1.0.0/16")},
		"10.2.0.0/30": {p("10.1.0.0/16"), p("10.0.0.0/15")},
	} {
		if got, err := PickSubnet(ranges, taken); err != nil || got.String() != want {
			t.Errorf("taken %v: got %v, %v, want %s", taken, got, err, want)
		}
	}
	if got, err := PickSubnet(ranges, []netip.Prefix{p("0.0.0.0/1")}); !errors.Is(err, ErrNoSubnet) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := PickSubnet([]Range{{p("255.255.255.0/24"), 25}}, []netip.Prefix{p("255.255.255.0/25")}); err != nil || got.String() != "255.255.255.128/25" {
		t.Errorf("got %v, %v", got, err)
	}
}
