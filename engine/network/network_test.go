package network

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"
)

// soon is how long to wait for what must not come.
const soon = 300 * time.Millisecond

func expect(t *testing.T, ask func(proto, at string, timeout time.Duration) (string, error), proto, at, want string) {
	t.Helper()
	got, err := ask(proto, at, patience)
	if err != nil || got != want {
		t.Errorf("%s %s: got %q, %v; want %q", proto, at, got, err, want)
	}
}

func refuse(t *testing.T, ask func(proto, at string, timeout time.Duration) (string, error), proto, at string) {
	t.Helper()
	if got, err := ask(proto, at, soon); err == nil {
		t.Errorf("%s %s answers %q; want no answer", proto, at, got)
	}
}

func TestContainersReachEachOther(t *testing.T) {
	e := start(t)
	a, b := e.run("a", "bridge"), e.run("b", "bridge")
	b.serveTCP(80, "b")
	b.serveUDP(53, "b")
	expect(t, a.ask, "tcp", at(b.addr(), 80), a.addr().String()+" b")
	expect(t, a.ask, "udp", at(b.addr(), 53), a.addr().String()+" b")
}

func TestNetworksAreIsolated(t *testing.T) {
	e := start(t)
	for _, name := range []string{"one", "two"} {
		_, err := e.Create(t.Context(), network.CreateRequest{Name: name})
		must(t, err)
	}
	a, b, c := e.run("a", "one"), e.run("b", "two"), e.run("c", "bridge")
	for _, box := range []*box{a, b, c} {
		box.serveTCP(80, "hello")
	}
	for _, from := range []*box{a, b, c} {
		for _, to := range []*box{a, b, c} {
			if from != to {
				refuse(t, from.ask, "tcp", at(to.addr(), 80))
			}
		}
	}
}

func TestPublish(t *testing.T) {
	needRoot(t)
	// Whether the kernel shows the firewall what it bridges decides on how a container reaches its own published ports.
	setting := []string{"bridge", "bridge-nf-call-iptables"}
	before, err := os.ReadFile(filepath.Join(sysctlRoot, filepath.Join(setting...)))
	if err != nil {
		t.Log("no br_netfilter:", err)
		testPublish(t)
		return
	}
	defer setSysctl(strings.TrimSpace(string(before)), setting...)
	for _, bridged := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+bridged, func(t *testing.T) {
			must(t, setSysctl(bridged, setting...))
			testPublish(t)
		})
	}
}

func testPublish(t *testing.T) {
	e := start(t)
	_, err := e.Create(t.Context(), network.CreateRequest{Name: "other"})
	must(t, err)
	web, peer, stranger := e.run("web", "bridge"), e.run("peer", "bridge"), e.run("stranger", "other")
	web.serveTCP(80, "web")
	web.serveUDP(53, "dns")
	ports, err := e.Service.Publish(t.Context(), web.id, network.PortMap{
		network.MustParsePort("80/tcp"): {{HostPort: "8080"}},
		network.MustParsePort("53/udp"): {{HostPort: "5353"}},
	})
	must(t, err)
	if got := len(ports[network.MustParsePort("80/tcp")]); got != 2 {
		t.Errorf("80/tcp has %d bindings; want one of IPv4 and one of IPv6: %v", got, ports)
	}
	gateway := "172.17.0.1"
	expect(t, ask, "tcp", gateway+":8080", gateway+" web")
	expect(t, ask, "tcp", "127.0.0.1:8080", gateway+" web")
	expect(t, ask, "tcp", "[::1]:8080", gateway+" web")
	expect(t, ask, "udp", "127.0.0.1:5353", gateway+" dns")
	expect(t, ask, "udp", "[::1]:5353", gateway+" dns")
	expect(t, web.ask, "tcp", gateway+":8080", gateway+" web")
	expect(t, peer.ask, "tcp", gateway+":8080", gateway+" web")
	expect(t, stranger.ask, "tcp", gateway+":8080", stranger.addr().String()+" web")
	refuse(t, peer.ask, "tcp", "127.0.0.1:8080")
}
