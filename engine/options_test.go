//go:build linux

package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// configure gives the engine a configuration file and starts it anew.
func (m *machine) configure(text string) {
	m.t.Helper()
	m.write("daemon.json", text)
	m.say("stop")
	m.say("start")
}

func (m *machine) write(name, text string) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// TestOptions gives an engine dockerd's options and looks at what containers get that ask for nothing.
func TestOptions(t *testing.T) {
	t.Cleanup(func() { // the parent is not the engine's to remove
		groups, _ := filepath.Glob("/sys/fs/cgroup/*/berth-nested")
		for _, g := range append(groups, "/sys/fs/cgroup/berth-nested") {
			_ = os.Remove(g)
		}
	})
	m := newMachine(t)
	profile := m.write("seccomp.json", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`)
	m.configure(`{"init":true, "default-shm-size":"128m", "default-ulimits":{"nofile":{"Name":"nofile","Soft":100,"Hard":200}},
		"default-stop-timeout":1, "host-gateway-ips":["10.1.2.3","fd00::1"], "default-address-pools":[{"base":"10.77.0.0/16","size":24}],
		"bip":"10.78.0.1/16", "fixed-cidr":"10.78.5.0/24", "icc":false, "mtu":1400, "ip":"127.0.0.1", "no-new-privileges":true,
		"cgroup-parent":"/berth-nested", "log-driver":"local", "log-opts":{"max-size":"1m"}, "default-ipc-mode":"shareable",
		"dns":["9.9.9.9"], "seccomp-profile":"` + profile + `"}`)
	for name, c := range map[string]struct {
		script string
		parts  []string
	}{
		"init":              {"cat /proc/1/comm", []string{"docker-init"}},
		"shm":               {"df -k /dev/shm | tail -1", []string{" 131072 "}},
		"ulimit":            {"ulimit -n; ulimit -Hn", []string{"100\n200"}},
		"host-gateway":      {"cat /etc/hosts", []string{"10.1.2.3\tup", "fd00::1\tup"}},
		"fixed-cidr, mtu":   {"ip addr show eth0", []string{" 10.78.5.", "/16", "mtu 1400"}},
		"no new privileges": {"grep NoNewPrivs /proc/self/status", []string{"1"}},
		"cgroup parent":     {"cat /proc/self/cgroup", []string{"/berth-nested/"}},
		"dns":               {"cat /etc/resolv.conf", []string{"nameserver 9.9.9.9"}},
		"seccomp profile":   {"mkdir /x || echo refused", []string{"refused"}},
	} {
		contains(t, name, m.must("run", "--rm", "--add-host", "up:host-gateway", busybox, "sh", "-c", c.script), c.parts...)
	}
	want(t, "init, declined", m.must("run", "--rm", "--init=false", busybox, "sh", "-c", "echo $$"), "1")
	m.must("run", "-d", "--name", "one", "-p", "80", busybox, "sleep", "600")
	want(t, "log driver and IPC", m.must("inspect", "-f", "{{.HostConfig.LogConfig}} {{.HostConfig.IpcMode}}", "one"), "{local map[max-size:1m]} shareable")
	contains(t, "ip", m.must("port", "one"), "80/tcp -> 127.0.0.1:")
	address := m.must("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "one")
	if r := m.docker("run", "--rm", busybox, "ping", "-c1", "-W1", address); r.code != 1 {
		t.Errorf("icc: %+v", r)
	}
	m.must("stop", "one") // sleep, with an init, ends at once
	want(t, "exit code", m.must("inspect", "-f", "{{.State.ExitCode}}", "one"), "143")
	m.must("rm", "one")
	m.must("network", "create", "pooled")
	want(t, "pool", m.must("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "pooled"), "10.77.0.0/24")
	m.must("network", "rm", "pooled")
	contains(t, "info", m.must("info"), "Init Binary: docker-init", "Base: 10.77.0.0/16, Size: 24", "Logging Driver: local")
}

func TestReload(t *testing.T) {
	m := newMachine(t)
	m.write("daemon.json", `{"labels":["a=b"],"default-shm-size":"1m","max-concurrent-downloads":1,"bip":"10.3.0.1/24"}`)
	m.say("hup")
	m.eventually("the labels", func() bool { return m.must("info", "-f", "{{.Labels}}") == "[a=b]" })
	contains(t, "shm", m.must("run", "--rm", busybox, "sh", "-c", "df -k /dev/shm | tail -1"), " 1024 ")
	out := m.must("events", "--since", "1h", "--until", "0s", "--filter", "type=daemon", "--format", "{{.Action}} {{json .Actor.Attributes}}")
	contains(t, "event", out, "reload", `"labels":"[\"a=b\"]"`, `"max-concurrent-downloads":"1"`, `"default-shm-size":"1048576"`)
	log, err := os.ReadFile(filepath.Join(m.dir, "log"))
	if err != nil || !strings.Contains(string(log), "directives=bip") {
		t.Errorf("the log does not say that bip takes a restart: %v", err)
	}
	m.must("run", "--rm", busybox, "true")
}

// TestContainersEndWithTheEngine when it is told so, and come back if their policy says so.
func TestContainersEndWithTheEngine(t *testing.T) {
	m := newMachine(t)
	m.configure(`{"live-restore":false}`)
	want(t, "info", m.must("info", "-f", "{{.LiveRestoreEnabled}}"), "false")
	m.must("run", "-d", "--name", "ends", "--init", busybox, "sleep", "600")
	m.must("run", "-d", "--name", "returns", "--init", "--restart", "always", busybox, "sleep", "600")
	m.say("stop")
	m.say("start")
	want(t, "without a policy", m.must("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "ends"), "exited 143")
	m.eventually("a new start", func() bool { return m.must("inspect", "-f", "{{.State.Status}}", "returns") == "running" })
	m.must("start", "ends")
	m.say("kill") // is no orderly end
	m.say("start")
	want(t, "after a crash", m.must("inspect", "-f", "{{.State.Status}}", "ends"), "running")
}
