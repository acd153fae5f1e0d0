package network

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"
	"github.com/moby/moby/api/types/network"
)

func TestContainersSurviveTheEngine(t *testing.T) {
	e := start(t)
	id, err := e.Create(t.Context(), network.CreateRequest{Name: "net"})
	must(t, err)
	web, db, dead := e.run("web", "net", "bridge"), e.run("db", "net"), e.run("dead", "net")
	web.serveTCP(80, "web")
	db.serveTCP(5432, "db")
	web.publish(tcp(80, on("", "8080")))
	dead.publish(tcp(80, on("", "8081")))
	before, err := e.Inspect(t.Context(), "net")
	must(t, err)

	e.crash()
	expect(t, ask, "tcp", "127.0.0.1:8080", "172.17.0.1 web") // while it is down
	expect(t, web.ask, "tcp", at(netip.MustParseAddr("172.18.0.3"), 5432), "172.18.0.2 db")

	e.open()
	must(t, e.Recover(t.Context(), []string{web.id, db.id}))
	e.settle()
	after, err := e.Inspect(t.Context(), id.ID)
	must(t, err)
	delete(before.Containers, dead.id)
	if diff := cmp.Diff(before.Containers, after.Containers, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	expect(t, ask, "tcp", "127.0.0.1:8080", "172.17.0.1 web")
	expect(t, ask, "tcp", "[::1]:8080", "172.17.0.1 web")
	refuse(t, ask, "tcp", "127.0.0.1:8081")
	if got, rcode := web.lookup("udp", "db", dns.TypeA); len(got) != 1 {
		t.Errorf("names after the restart: got %v %s", got, rcode)
	}
	if _, err := os.Stat(dead.path); !os.IsNotExist(err) {
		t.Errorf("the namespace of a dead container is left: %v", err)
	}
	if got := len(e.published()); got != 2 {
		t.Errorf("%d ports are told; want 8080 on IPv4 and IPv6", got)
	}
	next := e.run("next", "net")
	if got := next.addr().String(); got != "172.18.0.5" {
		t.Errorf("the next address is %s; want the one after those given out before the restart", got)
	}
}

// What a crash can leave at any point is removed.
func TestRecoverSweeps(t *testing.T) {
	e := start(t)
	b := e.run("b", "bridge")
	e.crash()
	must(t, os.Remove(filepath.Join(e.cfg.ExecRoot, "network", b.id+recordSuffix)))
	must(t, os.WriteFile(filepath.Join(e.cfg.ExecRoot, "network", "torn.json"), []byte(`{"version":`), 0o600))
	must(t, os.WriteFile(filepath.Join(e.cfg.ExecRoot, "netns", "unbound"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(e.cfg.Root, "networks", "torn.json"), []byte(`{"version":`), 0o600))
	s, err := Open(t.Context(), e.cfg)
	must(t, err)
	e.Service = s
	if got := len(s.Warnings()); got != 2 {
		t.Errorf("got %d warnings; want one for each torn document: %q", got, s.Warnings())
	}
	must(t, e.Recover(t.Context(), nil))
	for _, dir := range []string{"netns", "network"} {
		left, err := os.ReadDir(filepath.Join(e.cfg.ExecRoot, dir))
		must(t, err)
		if len(left) > 0 {
			t.Errorf("left in %s: %v", dir, left)
		}
	}
	must(t, os.Remove(filepath.Join(e.cfg.Root, "networks", "torn.json")))
}

func TestManyAtOnceLeaveNothing(t *testing.T) {
	e := start(t)
	_, err := e.Create(t.Context(), network.CreateRequest{Name: "net"})
	must(t, err)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			b := &box{t: t, id: randomID(), e: e}
			if _, err := e.CreateSandbox(t.Context(), b.id); err != nil {
				t.Error(err)
				return
			}
			networks := []string{"bridge", "net"}
			for _, n := range networks[:1+i%2] {
				if _, err := e.Connect(t.Context(), b.id, n, nil, []string{"c"}); err != nil {
					t.Error(err)
				}
			}
			if _, err := e.Service.Publish(t.Context(), b.id, tcp(80, on("", ""))); err != nil {
				t.Error(err)
			}
			var both sync.WaitGroup
			both.Go(func() { _ = e.Disconnect(t.Context(), b.id, "net", false) })
			both.Go(func() {
				if err := e.DeleteSandbox(t.Context(), b.id); err != nil {
					t.Error(err)
				}
			})
			both.Wait()
			if err := e.DeleteSandbox(t.Context(), b.id); err != nil {
				t.Error("deleting again:", err)
			}
		})
	}
	wg.Wait()
	e.settle()
	if got := slices.DeleteFunc(e.hostLinks(), func(n string) bool { return strings.HasPrefix(n, "br-") }); len(got) > 0 {
		t.Error("links are left:", got)
	}
	out, err := exec.Command("grep", "-c", e.cfg.ExecRoot, "/proc/self/mounts").Output()
	if err == nil {
		t.Errorf("%s mounts are left", out)
	}
	for _, dir := range []string{"netns", "network"} {
		left, err := os.ReadDir(filepath.Join(e.cfg.ExecRoot, dir))
		must(t, err)
		if len(left) > 0 {
			t.Errorf("left in %s: %v", dir, left)
		}
	}
	for _, n := range e.networks {
		if len(n.endpoints) > 0 {
			t.Errorf("endpoints are left in %s", n.rec.Name)
		}
	}
	if got := e.published(); len(got) > 0 {
		t.Error("ports are left:", got)
	}
}

// Somebody flushes the host's firewall: the next change puts it back.
func TestFirewallComesBack(t *testing.T) {
	e := start(t)
	a := e.run("a", "bridge")
	a.serveTCP(80, "a")
	a.publish(tcp(80, on("", "8080")))
	must(t, e.fw.Remove())
	expect(t, ask, "tcp", "127.0.0.1:8080", "172.17.0.1 a") // by the proxy
	_, err := e.Create(t.Context(), network.CreateRequest{Name: "net"})
	must(t, err)
	b := e.run("b", "net")
	refuse(t, b.ask, "tcp", at(a.addr(), 80))
	expect(t, b.ask, "tcp", "172.18.0.1:8080", b.addr().String()+" a")
}

// A service that is closed holds no file descriptor and no goroutine.
func TestCloseLeavesNothing(t *testing.T) {
	needRoot(t)
	files := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(all)
	}
	var before, goroutines int
	for i := range 4 {
		if i == 1 { // the first round opens what the process keeps
			before, goroutines = files(), runtime.NumGoroutine()
		}
		t.Run("round", func(t *testing.T) {
			e := start(t)
			e.make("net")
			b := e.run("b", "bridge", "net")
			b.publish(network.PortMap{network.MustParsePort("80/tcp"): {on("", "")}, network.MustParsePort("80/udp"): {on("", "")}})
			e.crash()
			e.open()
			must(t, e.Recover(t.Context(), []string{b.id}))
		})
	}
	for end := deadline(); time.Now().Before(end) && runtime.NumGoroutine() > goroutines; {
		runtime.Gosched() // goroutines that have been told to end
	}
	if got := files(); got > before {
		t.Errorf("%d file descriptors are open; %d were", got, before)
	}
	if got := runtime.NumGoroutine(); got > goroutines {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines are left; %d were\n%s", got, goroutines, buf[:runtime.Stack(buf, true)])
	}
}
