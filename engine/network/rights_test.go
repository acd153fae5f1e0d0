package network

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"
)

// Where sysctls cannot be written, ports on loopback are left to the proxy.
func TestReadOnlySysctls(t *testing.T) {
	needRoot(t)
	must(t, unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""))
	defer unix.Unmount("/proc/sys", unix.MNT_DETACH)
	must(t, unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	e := start(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(t.Output(), nil)) })
	web, peer := e.run("web", "bridge"), e.run("peer", "bridge")
	web.serveTCP(80, "web")
	web.publish(tcp(80, on("", "8080"), on("127.0.0.1", "8081")))
	expect(t, ask, "tcp", "127.0.0.1:8080", "172.17.0.1 web")
	expect(t, ask, "tcp", "127.0.0.1:8081", "172.17.0.1 web")
	expect(t, peer.ask, "tcp", "172.17.0.1:8080", "172.17.0.1 web")
}

const unprivileged = "BERTH_TEST_UNPRIVILEGED"

// Without CAP_NET_ADMIN the engine starts, and says what it needs.
func TestWithoutRights(t *testing.T) {
	needRoot(t)
	if os.Getenv(unprivileged) != "" {
		testUnprivileged(t)
		return
	}
	err := onThread(func() error {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_ADMIN, 0, 0, 0); err != nil {
			return err
		}
		cmd := exec.Command("/proc/self/exe", "-test.run", "^TestWithoutRights$", "-test.v")
		cmd.Env = append(os.Environ(), unprivileged+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestWithoutRights") {
			t.Errorf("%v\n%s", err, out)
		}
		return nil
	})
	must(t, err)
}

func testUnprivileged(t *testing.T) {
	run := t.TempDir()
	s, err := Open(t.Context(), Config{Root: filepath.Join(run, "root"), ExecRoot: filepath.Join(run, "exec")})
	must(t, err)
	defer s.Close()
	if text := strings.Join(s.Warnings(), "\n"); strings.Count(text, "requires CAP_NET_ADMIN") < 2 {
		t.Errorf("bridge and firewall do not say what they need: %s", text)
	}
	if _, err := s.Connect(t.Context(), "c1", "host", nil, nil); err != nil {
		t.Error("the host's network:", err)
	}
	if _, err := s.CreateSandbox(t.Context(), "c2"); err == nil || !strings.Contains(err.Error(), "requires CAP_NET_ADMIN") {
		t.Errorf("making a sandbox: got %v", err)
	}
	if _, err := s.Create(t.Context(), network.CreateRequest{Name: "net"}); err == nil || !strings.Contains(err.Error(), "requires CAP_NET_ADMIN") {
		t.Errorf("creating a network: got %v", err)
	}
	must(t, s.Recover(t.Context(), nil))
	run = t.TempDir()
	guarding, err := Open(t.Context(), Config{Root: filepath.Join(run, "root"), ExecRoot: filepath.Join(run, "exec"), Guard: []uint16{1}})
	must(t, err)
	defer guarding.Close()
	if err := guarding.Raise(t.Context()); err == nil {
		t.Error("ports are said to be guarded")
	}
}

func TestOtherFirewallIsTold(t *testing.T) {
	needRoot(t)
	c, err := nftables.New()
	must(t, err)
	table := c.AddTable(&nftables.Table{Name: "other", Family: nftables.TableFamilyIPv4})
	drop := nftables.ChainPolicyDrop
	c.AddChain(&nftables.Chain{Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	must(t, c.Flush())
	defer func() {
		c.DelTable(table)
		must(t, c.Flush())
	}()
	run := t.TempDir()
	s, err := Open(t.Context(), Config{Root: run, ExecRoot: run})
	must(t, err)
	defer s.Close()
	if got := s.Warnings(); len(got) != 1 || !strings.Contains(got[0], "other FORWARD") {
		t.Errorf("got %q", got)
	}
}
