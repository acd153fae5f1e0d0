package network

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"

	"github.com/getberth/berth/engine/filter"
)

func openFile(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func (e *engine) make(name string, change ...func(*network.CreateRequest)) string {
	e.t.Helper()
	req := network.CreateRequest{Name: name}
	for _, c := range change {
		c(&req)
	}
	r, err := e.Create(e.t.Context(), req)
	must(e.t, err)
	return r.ID
}

func withSubnet(c network.IPAMConfig) func(*network.CreateRequest) {
	return func(r *network.CreateRequest) { r.IPAM = &network.IPAM{Config: []network.IPAMConfig{c}} }
}

func TestInspect(t *testing.T) {
	e := start(t)
	n, err := e.Inspect(t.Context(), "bridge")
	must(t, err)
	if n.Driver != "bridge" || n.Scope != "local" || n.Options[optBridgeName] != "docker0" || n.Labels == nil || n.Containers == nil {
		t.Errorf("default network: got %+v", n)
	}
	want := []network.IPAMConfig{{Subnet: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1")}}
	if diff := cmp.Diff(want, n.IPAM.Config, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	id := e.make("net", withSubnet(network.IPAMConfig{
		Subnet: netip.MustParsePrefix("10.9.0.0/16"), IPRange: netip.MustParsePrefix("10.9.8.0/24"), Gateway: netip.MustParseAddr("10.9.0.254"),
		AuxAddress: map[string]netip.Addr{"router": netip.MustParseAddr("10.9.8.1")},
	}), func(r *network.CreateRequest) { r.Labels = map[string]string{"a": "b"} })
	b := e.run("web", "net")
	if got := e.run("next", "net").addr().String(); got != "10.9.8.2" {
		t.Errorf("got %s; want the next address that is not reserved", got)
	}
	n, err = e.Inspect(t.Context(), id[:8])
	must(t, err)
	got := n.Containers[b.id]
	if got.Name != "web" || got.IPv4Address.String() != "10.9.8.0/16" || got.EndpointID == "" || got.MacAddress.String() != "02:42:0a:09:08:00" {
		t.Errorf("container: got %+v", got)
	}
	if _, err := netlink.LinkByName("br-" + id[:12]); err != nil {
		t.Error(err)
	}
	for ref, want := range map[string]string{"default": "bridge", "host": "host", "none": "none", id: "net", "net": "net"} {
		if _, name, _, err := e.Resolve(t.Context(), ref); err != nil || name != want {
			t.Errorf("Resolve(%s): got %s, %v", ref, name, err)
		}
	}
	if _, _, _, err := e.Resolve(t.Context(), "nosuch"); !errdefs.IsNotFound(err) || err.Error() != "network nosuch not found" {
		t.Errorf("got %v", err)
	}
}

func TestConnectShowsTheEndpoint(t *testing.T) {
	e := start(t)
	id := e.make("net")
	b := e.run("web")
	ep := b.connect("net", &network.EndpointSettings{Aliases: []string{"www"}, GwPriority: 3}, "web", "www")
	if ep.NetworkID != id || len(ep.EndpointID) != 64 || ep.Gateway.String() != "172.18.0.1" || ep.IPAddress.String() != "172.18.0.2" ||
		ep.IPPrefixLen != 16 || ep.MacAddress.String() != "02:42:ac:12:00:02" || ep.GwPriority != 3 {
		t.Errorf("got %+v", ep)
	}
	if want := []string{"web", "www", shortID(b.id)}; !slices.Equal(ep.DNSNames, want) || !slices.Equal(ep.Aliases, []string{"www"}) {
		t.Errorf("names: got %v and %v", ep.DNSNames, ep.Aliases)
	}
	again := b.connect("net", nil, "web")
	if again.EndpointID != ep.EndpointID {
		t.Error("connecting again makes another endpoint")
	}
	must(t, e.Disconnect(t.Context(), b.id, "net", false))
	must(t, e.Disconnect(t.Context(), b.id, "net", false))
	must(t, e.Disconnect(t.Context(), randomID(), "net", true))
	host := &box{t: t, id: randomID(), e: e}
	if ep := host.connect("host", nil, "h"); ep.IPAddress.IsValid() || ep.EndpointID == "" {
		t.Errorf("host: got %+v", ep)
	}
	host.remove()
	b.connect("none", nil)
	b.remove()
	want := []string{
		"create net ", "connect net " + b.id, "disconnect net " + b.id, "connect host " + host.id, "disconnect host " + host.id,
		"connect none " + b.id, "disconnect none " + b.id,
	}
	if diff := cmp.Diff(want, e.told()); diff != "" {
		t.Error(diff)
	}
}

func TestAddresses(t *testing.T) {
	e := start(t)
	e.make("net", withSubnet(network.IPAMConfig{Subnet: netip.MustParsePrefix("10.9.0.0/29")}))
	fixed := func(ip string) *network.EndpointSettings {
		return &network.EndpointSettings{IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr(ip)}}
	}
	a, b := e.run("a"), e.run("b")
	if got := a.connect("net", fixed("10.9.0.4")).IPAddress.String(); got != "10.9.0.4" {
		t.Errorf("got %s; want the address that was asked for", got)
	}
	for _, test := range []struct {
		network string
		want    *network.EndpointSettings
		text    string
	}{
		{"net", fixed("10.9.0.4"), "Address already in use"},
		{"net", fixed("10.9.0.1"), "Address already in use"},
		{"net", fixed("10.9.1.4"), "no configured subnet contains IP address 10.9.1.4"},
		{"net", fixed("fd00::4"), "invalid IPv4 address"},
		{"bridge", fixed("172.17.0.9"), "user-specified IP address is supported on user-defined networks only"},
		{"bridge", &network.EndpointSettings{Aliases: []string{"x"}}, "network-scoped aliases are only supported for user-defined networks"},
		{"net", &network.EndpointSettings{DriverOpts: map[string]string{"x": "y"}}, `endpoint option "x" is not supported`},
		{"net", &network.EndpointSettings{MacAddress: network.HardwareAddr{1, 0, 0, 0, 0, 0}}, "invalid MAC address"},
	} {
		if _, err := e.Connect(t.Context(), b.id, test.network, test.want, nil); err == nil || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s %+v: got %v; want %q", test.network, test.want, err, test.text)
		}
	}
	// A container that comes back, as one that is restarted, has its address again, even if it has only just left.
	first := b.connect("net", nil).IPAddress
	for range 3 {
		b.remove()
		_, err := e.CreateSandbox(t.Context(), b.id)
		must(t, err)
		if got := b.connect("net", nil).IPAddress; got != first {
			t.Errorf("after a restart: got %s; want %s", got, first)
		}
	}
	// Another one does not get an address that was free a moment ago.
	b.remove()
	c := e.run("c", "net")
	if c.addr() == first {
		t.Errorf("%s is given out again at once", first)
	}
	// But it does when there is no other.
	for range 3 {
		e.run("d", "net")
	}
	full := e.run("e")
	if _, err := e.Connect(t.Context(), full.id, "net", nil, nil); err == nil || !strings.Contains(err.Error(), "no available addresses") {
		t.Errorf("in a full network: got %v", err)
	}
	c.remove()
	full.connect("net", nil)
}

func TestGatewayPriority(t *testing.T) {
	e := start(t)
	for _, name := range []string{"b", "a", "z"} {
		e.make(name)
	}
	e.make("inner", func(r *network.CreateRequest) { r.Internal = true })
	c := e.run("c", "inner", "b", "a")
	c.connect("z", &network.EndpointSettings{GwPriority: 1})
	for _, want := range []string{"z", "a", "b", ""} {
		if got := c.gatewayNetwork(); got != want {
			t.Errorf("the default route leads to %q; want %q", got, want)
		}
		if want != "" {
			must(t, e.Disconnect(t.Context(), c.id, want, false))
		}
	}
}

// gatewayNetwork is the network that the container's default route leads to.
func (b *box) gatewayNetwork() (name string) {
	b.t.Helper()
	must(b.t, inNamespace(b.path, func() error {
		routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
		for _, r := range routes {
			if r.Dst == nil || r.Dst.IP.IsUnspecified() {
				for _, n := range b.e.networks {
					if n.rec.Gateway.IsValid() && r.Gw.Equal(n.rec.Gateway.AsSlice()) {
						name = n.rec.Name
					}
				}
			}
		}
		return err
	}))
	return name
}

func TestContainersKeptApart(t *testing.T) {
	e := start(t)
	e.make("apart", func(r *network.CreateRequest) { r.Options = map[string]string{optICC: "false", optMTU: "1400"} })
	a, b := e.run("a", "apart"), e.run("b", "apart")
	b.serveTCP(80, "b")
	refuse(t, a.ask, "tcp", at(b.addr(), 80))
	must(t, inNamespace(a.path, func() error {
		link, err := netlink.LinkByName("eth0")
		if err == nil && link.Attrs().MTU != 1400 {
			t.Errorf("MTU: got %d", link.Attrs().MTU)
		}
		return err
	}))
}

func TestCreateRefuses(t *testing.T) {
	e := start(t)
	e.make("net", withSubnet(network.IPAMConfig{Subnet: netip.MustParsePrefix("10.9.0.0/16")}),
		func(r *network.CreateRequest) { r.Options = map[string]string{optBridgeName: "mine"} })
	yes, no := true, false
	subnet := func(s string) network.IPAMConfig { return network.IPAMConfig{Subnet: netip.MustParsePrefix(s)} }
	for _, test := range []struct {
		req  network.CreateRequest
		is   func(error) bool
		text string
	}{
		{network.CreateRequest{Name: "net"}, errdefs.IsConflict, "network with name net already exists"},
		{network.CreateRequest{Name: "bridge"}, errdefs.IsPermissionDenied, "operation is not permitted on predefined bridge network"},
		{network.CreateRequest{Name: " "}, errdefs.IsInvalidArgument, "name is empty"},
		{network.CreateRequest{Name: "a/b"}, errdefs.IsInvalidArgument, "invalid network name"},
		{network.CreateRequest{Name: "x", Driver: "host"}, errdefs.IsPermissionDenied, `only one instance of "host" network is allowed`},
		{network.CreateRequest{Name: "x", Driver: "macvlan"}, errdefs.IsNotFound, `"macvlan" is not supported`},
		{network.CreateRequest{Name: "x", EnableIPv6: &yes}, errdefs.IsInvalidArgument, "IPv6 is not supported"},
		{network.CreateRequest{Name: "x", EnableIPv4: &no}, errdefs.IsInvalidArgument, "no IPv4 is not supported"},
		{network.CreateRequest{Name: "x", Scope: "swarm"}, errdefs.IsInvalidArgument, "scope swarm is not supported"},
		{network.CreateRequest{Name: "x", Ingress: true}, errdefs.IsInvalidArgument, "ingress is not supported"},
		{network.CreateRequest{Name: "x", ConfigOnly: true}, errdefs.IsInvalidArgument, "config-only is not supported"},
		{network.CreateRequest{Name: "x", Options: map[string]string{"parent": "eth0"}}, errdefs.IsInvalidArgument, `network option "parent": not supported`},
		{network.CreateRequest{Name: "x", Options: map[string]string{optMTU: "7"}}, errdefs.IsInvalidArgument, "not between"},
		{network.CreateRequest{Name: "x", Options: map[string]string{optBridgeName: "mine"}}, errdefs.IsPermissionDenied, "networks have same bridge name"},
		{network.CreateRequest{Name: "x", Options: map[string]string{optBridgeName: "no/name"}}, errdefs.IsInvalidArgument, "cannot be the name of an interface"},
		{network.CreateRequest{Name: "x", Options: map[string]string{optBridgeName: "lo"}}, nil, "no bridge"},
		{network.CreateRequest{Name: "x", IPAM: &network.IPAM{Driver: "other"}}, errdefs.IsInvalidArgument, `invalid ipam driver: "other"`},
		{network.CreateRequest{Name: "x", IPAM: &network.IPAM{Config: []network.IPAMConfig{subnet("10.9.8.0/24")}}}, errdefs.IsPermissionDenied, "Pool overlaps with other one on this address space"},
		{network.CreateRequest{Name: "x", IPAM: &network.IPAM{Config: []network.IPAMConfig{subnet("10.8.0.1/16")}}}, errdefs.IsInvalidArgument, "invalid subnet 10.8.0.1/16: it should be 10.8.0.0/16"},
		{network.CreateRequest{Name: "x", IPAM: &network.IPAM{Config: []network.IPAMConfig{subnet("10.8.0.0/31")}}}, errdefs.IsInvalidArgument, "invalid subnet"},
		{network.CreateRequest{Name: "x", IPAM: &network.IPAM{Config: []network.IPAMConfig{subnet("fd00::/64")}}}, errdefs.IsInvalidArgument, "IPv6 is not supported"},
		{network.CreateRequest{Name: "x", IPAM: &network.IPAM{Config: []network.IPAMConfig{subnet("10.8.0.0/24"), subnet("10.7.0.0/24")}}}, errdefs.IsInvalidArgument, "multiple subnets"},
		{network.CreateRequest{Name: "x", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Gateway: netip.MustParseAddr("10.8.0.1")}}}}, errdefs.IsInvalidArgument, "a subnet is needed"},
		{network.CreateRequest{Name: "x", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.8.0.0/24"), Gateway: netip.MustParseAddr("10.7.0.1")}}}}, errdefs.IsInvalidArgument, "doesn't contain this address"},
		{network.CreateRequest{Name: "x", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.8.0.0/24"), IPRange: netip.MustParsePrefix("10.7.0.0/25")}}}}, errdefs.IsInvalidArgument, "doesn't contain ip-range"},
	} {
		_, err := e.Create(t.Context(), test.req)
		if err == nil || !strings.Contains(err.Error(), test.text) || test.is != nil && !test.is(err) {
			t.Errorf("%+v: got %v; want %q", test.req, err, test.text)
		}
	}
	list, err := e.List(t.Context(), nil)
	must(t, err)
	if len(list) != 4 {
		t.Errorf("%d networks after refusals; want 4", len(list))
	}
}

func TestRemoveAndPrune(t *testing.T) {
	e := start(t)
	e.make("used")
	e.make("free")
	e.make("labelled", func(r *network.CreateRequest) { r.Labels = map[string]string{"keep": ""} })
	b := e.run("web", "used")
	for ref, text := range map[string]string{
		"bridge": "bridge is a pre-defined network and cannot be removed",
		"used":   `network used has active endpoints (name:"web" id:"` + shortID(b.id) + `")`,
	} {
		if err := e.Remove(t.Context(), ref); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("removing %s: got %v; want %q", ref, err, text)
		}
	}
	if err := e.Remove(t.Context(), "nosuch"); !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	report, err := e.Prune(t.Context(), filter.Args{"label!": {"keep"}})
	must(t, err)
	if !slices.Equal(report.NetworksDeleted, []string{"free"}) {
		t.Errorf("pruned %v; want free", report.NetworksDeleted)
	}
	b.remove()
	must(t, e.Remove(t.Context(), "used"))
	if got := e.make("used"); got == "" {
		t.Error("a removed network's name cannot be used again")
	}
}

func TestList(t *testing.T) {
	e := start(t)
	e.make("one", func(r *network.CreateRequest) { r.Labels = map[string]string{"a": "b"} })
	e.make("two")
	e.run("web", "two")
	for _, test := range []struct {
		filters filter.Args
		want    string
	}{
		{nil, "bridge host none one two"},
		{filter.Args{"driver": {"bridge"}}, "bridge one two"},
		{filter.Args{"type": {"builtin"}}, "bridge host none"},
		{filter.Args{"type": {"custom"}, "dangling": {"true"}}, "one"},
		{filter.Args{"dangling": {"false"}}, "bridge host none two"},
		{filter.Args{"label": {"a=b"}}, "one"},
		{filter.Args{"name": {"w"}}, "two"},
		{filter.Args{"name": {"^o"}}, "one"},
		{filter.Args{"scope": {"swarm"}}, ""},
	} {
		list, err := e.List(t.Context(), test.filters)
		must(t, err)
		var names []string
		for _, n := range list {
			names = append(names, n.Name)
		}
		if got := strings.Join(names, " "); got != test.want {
			t.Errorf("%v: got %q; want %q", test.filters, got, test.want)
		}
	}
	for _, f := range []filter.Args{{"nosuch": {"x"}}, {"type": {"x"}}, {"dangling": {"x"}}} {
		if _, err := e.List(t.Context(), f); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: got %v", f, err)
		}
	}
}

func TestDefaultNetwork(t *testing.T) {
	e := start(t, func(c *Config) { c.BIP = "10.7.0.9/24" })
	if got := e.run("c", "bridge").addr().String(); got != "10.7.0.10" {
		t.Errorf("got %s; want an address beside the configured one", got)
	}
	must(t, e.Recover(t.Context(), nil))
	id, _, _, err := e.Resolve(t.Context(), "bridge")
	must(t, err)
	e.crash()
	e.cfg.BIP = "10.6.0.1/24"
	e.open()
	if again, _, _, _ := e.Resolve(t.Context(), "bridge"); again != id {
		t.Error("the default network has another id after a restart")
	}
	if got := e.run("c", "bridge").addr().String(); got != "10.6.0.2" {
		t.Errorf("with another address: got %s", got)
	}
	must(t, e.Recover(t.Context(), nil))
	e.crash()
	e.cfg.Bridge, e.cfg.BIP = "none", ""
	e.open()
	if _, _, _, err := e.Resolve(t.Context(), "bridge"); !errdefs.IsNotFound(err) {
		t.Errorf("without a default network: got %v", err)
	}
}

// The host's own networks are avoided.
func TestSubnetsAvoidRoutes(t *testing.T) {
	e := start(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "vpn0"
	vpn := &netlink.Bridge{LinkAttrs: attrs}
	must(t, netlink.LinkAdd(vpn))
	defer netlink.LinkDel(vpn)
	must(t, netlink.LinkSetUp(vpn))
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: vpn.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("172.18.5.0/24"))}))
	e.make("net")
	if got := e.run("c", "net").addr().String(); got != "172.19.0.2" {
		t.Errorf("got %s; want one of the next free subnet", got)
	}
	must(t, e.Recover(t.Context(), nil))
}
