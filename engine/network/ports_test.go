package network

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/network"

	"github.com/getberth/berth/engine/config"
	"net/netip"
)

func tcp(container int, bindings ...network.PortBinding) network.PortMap {
	return network.PortMap{network.MustParsePort(fmt.Sprintf("%d/tcp", container)): bindings}
}

func on(ip, port string) network.PortBinding {
	b := network.PortBinding{HostPort: port}
	if ip != "" {
		b.HostIP = netip.MustParseAddr(ip)
	}
	return b
}

func (b *box) publish(want network.PortMap) network.PortMap {
	b.t.Helper()
	got, err := b.e.Service.Publish(b.t.Context(), b.id, want)
	must(b.t, err)
	return got
}

func TestPublishOnOneAddress(t *testing.T) {
	e := start(t)
	web := e.run("web", "bridge")
	web.serveTCP(80, "web")
	web.publish(tcp(80, on("127.0.0.1", "8080"), on("127.0.0.2", "8081"), on("::1", "8082")))
	expect(t, ask, "tcp", "127.0.0.1:8080", "172.17.0.1 web")
	expect(t, ask, "tcp", "127.0.0.2:8081", "172.17.0.1 web")
	expect(t, ask, "tcp", "[::1]:8082", "172.17.0.1 web")
	refuse(t, ask, "tcp", "127.0.0.2:8080")
	refuse(t, ask, "tcp", "172.17.0.1:8080")
	refuse(t, web.ask, "tcp", "172.17.0.1:8080")
}

func TestPublishWithoutFirewall(t *testing.T) {
	off := false
	e := start(t, func(c *Config) { c.IPTables = &off })
	web, peer := e.run("web", "bridge"), e.run("peer", "bridge")
	web.serveTCP(80, "web")
	web.serveUDP(53, "dns")
	web.publish(network.PortMap{
		network.MustParsePort("80/tcp"): {on("", "8080")},
		network.MustParsePort("53/udp"): {on("", "5353")},
	})
	expect(t, ask, "tcp", "127.0.0.1:8080", "172.17.0.1 web")
	expect(t, ask, "udp", "127.0.0.1:5353", "172.17.0.1 dns")
	expect(t, ask, "tcp", "[::1]:8080", "172.17.0.1 web")
	expect(t, peer.ask, "tcp", "172.17.0.1:8080", "172.17.0.1 web")
}

func TestPublishConflicts(t *testing.T) {
	e := start(t)
	a, b := e.run("a", "bridge"), e.run("b", "bridge")
	a.publish(tcp(80, on("", "8080")))
	host, err := net.Listen("tcp4", "127.0.0.1:9090")
	must(t, err)
	defer host.Close()
	for _, test := range []struct {
		binding network.PortBinding
		want    string
	}{
		{on("", "8080"), "Bind for 0.0.0.0:8080 failed: port is already allocated"},
		{on("127.0.0.1", "8080"), "Bind for 127.0.0.1:8080 failed: port is already allocated"},
		{on("::", "8080"), "Bind for [::]:8080 failed: port is already allocated"},
		{on("", "9090"), "failed to bind host port 0.0.0.0:9090/tcp: address already in use"},
		{on("127.0.0.1", "9090"), "failed to bind host port 127.0.0.1:9090/tcp: address already in use"},
		{on("192.0.2.7", "7070"), "failed to bind host port 192.0.2.7:7070/tcp: cannot assign requested address"},
		{on("", "70000"), "invalid host port"},
		{on("", "x"), "invalid host port"},
		{on("", "10-5"), "invalid host port"},
	} {
		_, err := e.Service.Publish(t.Context(), b.id, tcp(80, on("", "6060"), test.binding))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: got %v; want %q", test.binding, err, test.want)
		}
		if strings.Contains(test.want, "already") && !errdefs.IsConflict(err) {
			t.Errorf("%v: %v is no conflict", test.binding, err)
		}
		refuse(t, ask, "tcp", "127.0.0.1:6060")
	}
	_, err = e.Service.Publish(t.Context(), b.id, network.PortMap{network.MustParsePort("80/sctp"): {on("", "80")}})
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("publishing SCTP: got %v; want a refusal", err)
	}
}

func TestPublishRangesAndFreePorts(t *testing.T) {
	e := start(t)
	a, b := e.run("a", "bridge"), e.run("b", "bridge")
	port := func(m network.PortMap) string { return m[network.MustParsePort("80/tcp")][0].HostPort }
	if got := port(a.publish(tcp(80, on("127.0.0.1", "8000-8001")))); got != "8000" {
		t.Errorf("first of a range: got %s", got)
	}
	if got := port(b.publish(tcp(80, on("127.0.0.1", "8000-8001")))); got != "8001" {
		t.Errorf("second of a range: got %s", got)
	}
	for _, asked := range []string{"", "0"} {
		got := a.publish(tcp(80, on("", asked)))[network.MustParsePort("80/tcp")]
		if len(got) != 2 || got[0].HostPort != got[1].HostPort || got[0].HostPort < "32768" {
			t.Errorf("free port %q: got %v; want one port of 32768 and up on 0.0.0.0 and [::]", asked, got)
		}
	}
}

func TestPortsChanged(t *testing.T) {
	e := start(t)
	a, b := e.run("a", "bridge"), e.run("b", "bridge")
	a.publish(tcp(80, on("127.0.0.1", "8080")))
	b.publish(network.PortMap{network.MustParsePort("53/udp"): {on("0.0.0.0", "53")}})
	want := []config.Port{{Proto: "udp", IP: "0.0.0.0", Port: 53}, {Proto: "tcp", IP: "127.0.0.1", Port: 8080}}
	if diff := cmp.Diff(want, e.published()); diff != "" {
		t.Error(diff)
	}
	a.remove()
	if diff := cmp.Diff(want[:1], e.published()); diff != "" {
		t.Error(diff)
	}
	b.publish(network.PortMap{})
	if got := e.published(); len(got) != 0 {
		t.Errorf("got %v; want none", got)
	}
}

// A client that keeps sending datagrams reaches the container that has the port now.
func TestDatagramsFollowThePort(t *testing.T) {
	e := start(t)
	want := network.PortMap{network.MustParsePort("53/udp"): {on("127.0.0.1", "5353")}}
	client, err := net.Dial("udp4", "127.0.0.1:5353")
	must(t, err)
	defer client.Close()
	for _, name := range []string{"first", "second"} {
		b := e.run(name, "bridge")
		b.serveUDP(53, name)
		b.publish(want)
		if got := exchange(t, client); got != "172.17.0.1 "+name {
			t.Errorf("got %q from %s", got, name)
		}
		b.remove()
	}
}

func exchange(t *testing.T, conn net.Conn) string {
	t.Helper()
	must(t, conn.SetDeadline(deadline()))
	_, _ = conn.Write([]byte("hello")) // an error is that of an earlier datagram
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(buf[:n]))
}

func TestPublishMany(t *testing.T) {
	e := start(t)
	web := e.run("web", "bridge")
	web.serveTCP(1000, "last")
	web.publish(manyPorts(20000, 1000))
	expect(t, ask, "tcp", "127.0.0.1:20999", "172.17.0.1 last")
	if got := len(e.published()); got != 2000 {
		t.Errorf("%d ports are published; want 1000 for IPv4 and IPv6 each", got)
	}
}

func TestGuardPorts(t *testing.T) {
	e := start(t, func(c *Config) { c.Guard = []uint16{2376} })
	_, err := e.Create(t.Context(), network.CreateRequest{Name: "later"})
	must(t, err)
	_, err = e.Create(t.Context(), network.CreateRequest{Name: "latest", Internal: true})
	must(t, err)
	for _, port := range []string{"2376", "2377"} {
		ln, err := net.Listen("tcp", ":"+port)
		must(t, err)
		answerTCP(t, ln, "engine")
	}
	expect(t, ask, "tcp", "127.0.0.1:2376", "127.0.0.1 engine")
	for _, name := range []string{"bridge", "later", "latest"} {
		b := e.run("c", name)
		for _, gateway := range []string{"172.17.0.1", "172.18.0.1", "172.19.0.1"} {
			refuse(t, b.ask, "tcp", gateway+":2376")
		}
		own := strings.TrimSuffix(b.addr().String(), ".2") + ".1"
		expect(t, b.ask, "tcp", own+":2377", b.addr().String()+" engine")
	}
}
