package network

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const hostAddr, lanAddr = "192.0.2.1", "192.0.2.2"

// lan makes another machine, whose way to all else leads through this host, as a neighbour would set it up who wants to
// reach containers.
func (e *engine) lan() *box {
	e.t.Helper()
	lan := &box{t: e.t, path: filepath.Join(e.cfg.ExecRoot, "lan"), e: e}
	must(e.t, makeNamespace(lan.path, prepareNamespace))
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "lan0"
	pair := netlink.NewVeth(attrs)
	pair.PeerName = "eth0"
	must(e.t, netlink.LinkAdd(pair))
	e.t.Cleanup(func() {
		_ = netlink.LinkDel(pair)
		must(e.t, removeNamespace(lan.path))
	})
	must(e.t, netlink.AddrAdd(pair, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(hostAddr + "/24"))}))
	must(e.t, netlink.LinkSetUp(pair))
	peer, err := netlink.LinkByName("eth0")
	must(e.t, err)
	must(e.t, inNamespace(lan.path, func() error { return nil }))
	ns, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(e.t, err)
	defer ns.Close()
	f := openFile(e.t, lan.path)
	must(e.t, ns.LinkSetNsFd(peer, int(f.Fd())))
	must(e.t, inNamespace(lan.path, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		link, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(lanAddr + "/24"))}); err != nil {
			return err
		}
		if err := h.LinkSetUp(link); err != nil {
			return err
		}
		for _, dst := range []string{"172.16.0.0/12", "127.0.0.8/32"} {
			route := netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix(dst)), Gw: net.ParseIP(hostAddr)}
			if err := h.RouteReplace(&route); err != nil {
				return fmt.Errorf("%s: %w", dst, err)
			}
		}
		return setSysctl("1", "ipv4", "conf", "eth0", "route_localnet")
	}))
	return lan
}

func TestOtherHosts(t *testing.T) {
	e := start(t)
	lan := e.lan()
	lan.serveTCP(80, "lan")
	_, err := e.Create(t.Context(), network.CreateRequest{Name: "inner", Internal: true})
	must(t, err)
	_, err = e.Create(t.Context(), network.CreateRequest{Name: "routed", Options: map[string]string{optMasquerade: "false"}})
	must(t, err)
	web, inner, routed := e.run("web", "bridge"), e.run("inner", "inner"), e.run("routed", "routed")
	for _, b := range []*box{web, inner, routed} {
		b.serveTCP(80, "hello")
	}
	web.publish(network.PortMap{
		network.MustParsePort("80/tcp"): {on("", "8080"), on("127.0.0.1", "8081"), on("127.0.0.8", "8082"), on(hostAddr, "8083")},
	})
	if got := inner.publish(tcp(80, on("", "8090"))); len(got) != 0 {
		t.Errorf("an internal network publishes %v", got)
	}

	expect(t, web.ask, "tcp", lanAddr+":80", hostAddr+" lan")
	expect(t, routed.ask, "tcp", lanAddr+":80", routed.addr().String()+" lan")
	refuse(t, inner.ask, "tcp", lanAddr+":80")

	expect(t, lan.ask, "tcp", hostAddr+":8080", lanAddr+" hello")
	expect(t, lan.ask, "tcp", hostAddr+":8083", lanAddr+" hello")
	expect(t, lan.ask, "tcp", "172.17.0.1:8080", lanAddr+" hello")
	for _, at := range []string{
		hostAddr + ":8081", hostAddr + ":8090", // published elsewhere, or not at all
		"127.0.0.8:8082",               // on this host's loopback
		web.addr().String() + ":80",    // the containers themselves
		routed.addr().String() + ":80", //
		inner.addr().String() + ":80",  //
	} {
		refuse(t, lan.ask, "tcp", at)
	}
}

// The computer on which this host is a light VM relays what its users send to their own loopback; nobody else gets that far.
func TestRelayReachesLoopback(t *testing.T) {
	e := start(t, func(c *Config) { c.Relay = netip.MustParseAddr(lanAddr) })
	lan := e.lan()
	web := e.run("web", "bridge")
	web.serveTCP(80, "hello")
	web.publish(network.PortMap{network.MustParsePort("80/tcp"): {on("127.0.0.1", "8081"), on("127.0.0.8", "8082")}})
	expect(t, lan.ask, "tcp", hostAddr+":8081", lanAddr+" hello")
	refuse(t, lan.ask, "tcp", hostAddr+":8082")
	refuse(t, web.ask, "tcp", "172.17.0.1:8081")
}
