//go:build linux

package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// TestUninstall leaves nothing of an engine that ran containers with all that they can have, and everything of others.
func TestUninstall(t *testing.T) {
	m := newMachine(t)
	m.must("network", "create", "net1")
	m.must("run", "-d", "--name", "c1", "--network", "net1", "-p", "8080:80", "-v", "vol1:/data", "-v", "/tmp:/host", "busybox:1.24", "sleep", "1000")
	m.must("run", "-d", "--restart", "always", "--tmpfs", "/scratch", "busybox:1.24", "sh", "-c", "sleep 1000 & sleep 1000")
	m.must("create", "busybox:1.24")
	if left := m.say("left"); !strings.Contains(left, "docker0") || !strings.Contains(left, "table berth") || !strings.Contains(left, "mount ") {
		t.Fatalf("the engine has left no traces: %s", left)
	}
	containers, _ := filepath.Glob(filepath.Join(m.dir, "data/containers/*"))
	others := filepath.Join(m.dir, "data", "mine")
	if err := os.WriteFile(others, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.refuse("uninstall", "is in use by another berthd")
	m.say("stop")
	m.say("uninstall")
	if left := m.say("left"); left != "nothing" {
		t.Errorf("left behind: %s", left)
	}
	for _, id := range containers {
		for _, pattern := range []string{"/sys/fs/cgroup/berth/", "/sys/fs/cgroup/*/berth/"} {
			if groups, _ := filepath.Glob(pattern + filepath.Base(id)); len(groups) > 0 {
				t.Errorf("left behind: %s", groups)
			}
		}
	}
	entries, err := os.ReadDir(filepath.Join(m.dir, "data"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "mine" {
		t.Errorf("in the data root: %v, %v", entries, err)
	}
	m.say("uninstall") // once more does nothing
	m.say("start")
	if out := m.must("ps", "-aq"); out != "" {
		t.Errorf("containers after it: %s", out)
	}
}

// refuse gives an order that must fail.
func (m *machine) refuse(order, want string) {
	m.t.Helper()
	fmt.Fprintln(m.in, order)
	line, err := m.answers.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "error ") || !strings.Contains(line, want) {
		m.t.Fatalf("%s: got %q, %v; want an error about %q", order, line, err, want)
	}
}

// whatIsLeft lists what an engine has in the kernel and in /run.
func whatIsLeft() (string, error) {
	var found []string
	links, err := netlink.LinkList()
	if err != nil {
		return "", err
	}
	for _, l := range links {
		switch l.Type() {
		case "bridge", "veth":
			found = append(found, l.Attrs().Name)
		}
	}
	c, err := nftables.New()
	if err != nil {
		return "", err
	}
	tables, err := c.ListTables()
	if err != nil {
		return "", err
	}
	for _, t := range tables {
		found = append(found, "table "+t.Name)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if at := strings.Fields(line)[1]; strings.HasPrefix(at, "/run/berth") || strings.Contains(at, "/data/") {
			found = append(found, "mount "+at)
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		if name, _ := os.ReadFile(filepath.Join(p, "comm")); p != "/proc/1" && len(name) > 0 {
			found = append(found, "process "+strings.TrimSpace(string(name)))
		}
	}
	entries, err := os.ReadDir("/run")
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		found = append(found, "/run/"+e.Name())
	}
	if len(found) == 0 {
		return "nothing", nil
	}
	return strings.Join(found, ", "), nil
}
