//go:build linux

package engine

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const busybox = "busybox:1.24"

// TestDocker drives one engine with the stock client.
func TestDocker(t *testing.T) {
	m := newMachine(t)
	for name, test := range map[string]func(*testing.T, *machine){
		"run": testRun, "streams": testStreams, "exec": testExec, "settings": testSettings, "mounts": testMounts,
		"ports": testPorts, "logs": testLogs, "errors": testErrors, "copy": testCopy, "images": testImages,
		"info": testInfo, "limits": testLimits, "networks": testNetworks, "restart policy": testRestartPolicy,
		"events": testEvents, "commit": testCommit, "lifecycle": testLifecycle, "log drivers": testLogDrivers, "init": testInit,
	} {
		t.Run(name, func(t *testing.T) {
			of := *m
			of.t = t
			test(t, &of)
		})
	}
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func contains(t *testing.T, what, got string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) {
			t.Errorf("%s: got %q, want %q in it", what, got, part)
		}
	}
}

// testRun pulls what is missing and leaves nothing with --rm.
func testRun(t *testing.T, m *machine) {
	want(t, "output", m.must("run", "--rm", busybox, "echo", "Hello World"), "Hello World")
	r := m.docker("run", "--rm", "--name", "once", busybox, "sh", "-c", "echo out; echo err >&2; exit 3")
	if r.out != "out" || r.err != "err" || r.code != 3 {
		t.Errorf("got %+v", r)
	}
	want(t, "what is left", m.must("ps", "-aq", "--filter", "name=once"), "")
}

func testStreams(t *testing.T, m *machine) {
	if r := m.dockerIn("hello", "run", "-i", "--rm", busybox, "cat"); r.out != "hello" {
		t.Errorf("stdin: %+v", r)
	}
	large := strings.Repeat("0123456789abcdef", 1<<16)
	if r := m.dockerIn(large, "run", "-i", "--rm", busybox, "cat"); r.out != large {
		t.Errorf("a megabyte: %d bytes, %s", len(r.out), r.err)
	}
	// The output of a process that ends at once is what engines lose.
	for range 5 {
		want(t, "short-lived", m.must("run", "--rm", busybox, "echo", "-n", "x"), "x")
	}
	if r := m.docker("run", "--rm", "-t", busybox, "sh", "-c", "tty; stty size"); !strings.Contains(r.out, "/dev/pts/0") {
		t.Errorf("tty: %+v", r)
	}
}

func testExec(t *testing.T, m *machine) {
	m.must("run", "-d", "--name", "exec", "-e", "A=1", busybox, "sleep", "600")
	defer m.must("rm", "-f", "exec")
	want(t, "output", m.must("exec", "-e", "B=2", "-w", "/tmp", "exec", "sh", "-c", "echo $A $B $PWD"), "1 2 /tmp")
	want(t, "user", m.must("exec", "-u", "nobody", "exec", "id", "-un"), "nobody")
	if r := m.docker("exec", "exec", "sh", "-c", "exit 4"); r.code != 4 {
		t.Errorf("exit code: %+v", r)
	}
	if r := m.dockerIn("piped", "exec", "-i", "exec", "cat"); r.out != "piped" || r.code != 0 {
		t.Errorf("stdin: %+v", r)
	}
	if r := m.docker("exec", "exec", "nope"); r.code != 127 || !strings.Contains(r.out+r.err, "executable file not found") {
		t.Errorf("no such program: %+v", r)
	}
	m.must("exec", "-d", "exec", "touch", "/tmp/detached")
	m.eventually("the detached command", func() bool { return m.docker("exec", "exec", "ls", "/tmp/detached").code == 0 })
}

func testSettings(t *testing.T, m *machine) {
	out := m.must("run", "--rm", "-e", "NAME=value", "-w", "/var", "-u", "1000:100", "--hostname", "box", "--read-only", busybox,
		"sh", "-c", "echo $NAME; pwd; id -u; id -g; hostname; touch /x 2>/dev/null || echo read-only")
	want(t, "settings", out, "value\n/var\n1000\n100\nbox\nread-only")
	out = m.must("run", "--rm", "--add-host", "other:10.1.2.3", "--dns", "9.9.9.9", "--label", "l=1", busybox, "sh", "-c",
		"grep other /etc/hosts; grep nameserver /etc/resolv.conf")
	contains(t, "hosts", out, "10.1.2.3", "9.9.9.9")
	contains(t, "capabilities", m.must("run", "--rm", busybox, "grep", "CapEff", "/proc/self/status"), "00000000a80425fb") // Docker's default set
	want(t, "seccomp", m.must("run", "--rm", busybox, "sh", "-c", "grep Seccomp: /proc/self/status | tr -d '\\t '"), "Seccomp:2")
}

func testMounts(t *testing.T, m *machine) {
	dir := filepath.Join(m.dir, "bind")
	if err := os.WriteFile(filepath.Join(m.dir, "file"), []byte("from the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	want(t, "bind", m.must("run", "--rm", "-v", m.dir+"/file:/file:ro", busybox, "cat", "/file"), "from the host")
	m.must("run", "--rm", "-v", dir+":/d", busybox, "touch", "/d/made") // a source that is not there is made
	if _, err := os.Stat(filepath.Join(dir, "made")); err != nil {
		t.Error(err)
	}
	m.must("run", "--rm", "-v", "data:/d", busybox, "sh", "-c", "echo kept > /d/f")
	want(t, "volume", m.must("run", "--rm", "-v", "data:/d:ro", busybox, "cat", "/d/f"), "kept")
	contains(t, "tmpfs", m.must("run", "--rm", "--tmpfs", "/t:size=1m,mode=1770", busybox, "grep", " /t ", "/proc/mounts"), "tmpfs", "size=1024k")
	if r := m.docker("run", "--rm", "--mount", "type=bind,src=/no/such,dst=/d", busybox, "true"); r.code != 125 || !strings.Contains(r.err, "bind source path does not exist") {
		t.Errorf("a bind mount without source: %+v", r)
	}
	m.must("volume", "rm", "data")
	m.must("pull", "-q", busybox)
	out := m.must("run", "--rm", "--mount", "type=image,src="+busybox+",dst=/whole", "--mount", "type=image,src="+busybox+",dst=/part,image-subpath=etc",
		busybox, "sh", "-c", "ls /whole/bin/busybox /part/passwd; touch /whole/x 2>&1; grep -c ' /whole ' /proc/mounts")
	contains(t, "image", out, "/whole/bin/busybox\n", "/part/passwd\n", "Read-only file system")
	if r := m.docker("run", "--rm", "--mount", "type=image,src=nothing:1,dst=/d", busybox, "true"); r.code != 125 || !strings.Contains(r.err, "No such image: nothing:1") {
		t.Errorf("an image that is not there: %+v", r)
	}
	if r := m.docker("run", "--rm", "--mount", "type=image,src="+busybox+",dst=/d,image-subpath=no/such", busybox, "true"); r.code == 0 || !strings.Contains(r.err, "cannot access path no/such") {
		t.Errorf("a part that is not there: %+v", r)
	}
	before := m.must("volume", "ls", "-q")
	m.must("run", "--rm", "-v", "/anonymous", busybox, "true")
	want(t, "anonymous volumes", m.must("volume", "ls", "-q"), before)
}

func testPorts(t *testing.T, m *machine) {
	m.must("run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1::81", busybox, "sh", "-c", "echo page > /tmp/index.html; httpd -f -p 80 -h /tmp")
	defer m.docker("rm", "-f", "web")
	m.eventually("the server listens", func() bool { return m.docker("exec", "web", "wget", "-qO-", "http://127.0.0.1/").code == 0 })
	want(t, "published", m.say("get http://127.0.0.1:8080/"), "page")
	contains(t, "ports", m.must("port", "web"), "80/tcp -> 0.0.0.0:8080", "81/tcp -> 127.0.0.1:")
	if r := m.docker("run", "-d", "--name", "web2", "-p", "8080:80", busybox, "sleep", "600"); r.code != 125 || !strings.Contains(r.err, "port is already allocated") {
		t.Errorf("a taken port: %+v", r)
	}
	m.must("rm", "web2")
	m.must("rm", "-f", "web")
	m.must("run", "-d", "--name", "web", "-p", "8080:80", busybox, "sleep", "600")
}

func testLogs(t *testing.T, m *machine) {
	m.must("run", "--name", "logs", busybox, "sh", "-c", "echo one; echo two >&2; echo three")
	defer m.must("rm", "logs")
	r := m.docker("logs", "logs")
	if r.out != "one\nthree" || r.err != "two" {
		t.Errorf("got %+v", r)
	}
	m.must("run", "-d", "--name", "follow", busybox, "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
	defer m.must("rm", "-f", "follow")
	want(t, "follow", m.must("logs", "-f", "follow"), "1\n2\n3")
	want(t, "tail", m.must("logs", "--tail", "1", "follow"), "3")
	if out := m.must("logs", "-t", "--tail", "1", "follow"); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT[\d:.]+Z 3$`).MatchString(out) {
		t.Errorf("timestamps: %q", out)
	}
	want(t, "since", m.must("logs", "--since", "2100-01-01T00:00:00Z", "follow"), "")
	want(t, "tty", m.must("run", "--rm", "-t", busybox, "echo", "x"), "x")
}

// testErrors are texts that clients and people look for.
func testErrors(t *testing.T, m *machine) {
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"run", "--rm", busybox, "nope"}, 127, `exec: "nope": executable file not found in $PATH`},
		{[]string{"run", "--rm", busybox, "/etc"}, 126, "is a directory"},
		{[]string{"run", "--rm", "nothing:1"}, 125, "not found"},
		{[]string{"inspect", "nothing"}, 1, "no such object: nothing"},
		{[]string{"rm", "nothing"}, 1, "No such container: nothing"},
		{[]string{"rmi", "nothing"}, 1, "No such image: nothing"},
		{[]string{"volume", "inspect", "nothing"}, 1, "no such volume"},
		{[]string{"network", "inspect", "nothing"}, 1, "network nothing not found"},
		{[]string{"run", "--rm", "--network", "nothing", busybox, "true"}, 125, "network nothing not found"},
		{[]string{"create", "--name", "/bad name", busybox}, 1, "Invalid container name"},
		{[]string{"build", "--help"}, 0, ""},
		{[]string{"service", "ls"}, 1, "This node is not a swarm manager"},
		{[]string{"ps", "--filter", "colour=red"}, 1, "invalid filter"},
		{[]string{"run", "--rm", "--runtime", "crun", busybox}, 125, "crun"},
	} {
		r := m.docker(test.args...)
		if r.code != test.code || !strings.Contains(strings.ToLower(r.out+r.err), strings.ToLower(test.want)) {
			t.Errorf("%q: %+v, want %d %q", test.args, r, test.code, test.want)
		}
	}
	m.must("create", "--name", "taken", busybox)
	defer m.must("rm", "taken")
	if r := m.docker("create", "--name", "taken", busybox); r.code != 1 || !strings.Contains(r.err, `Conflict. The container name "/taken" is already in use`) {
		t.Errorf("a taken name: %+v", r)
	}
	if r := m.docker("rmi", busybox); r.code != 1 || !strings.Contains(r.err, "conflict") {
		t.Errorf("an image in use: %+v", r)
	}
}

func testCopy(t *testing.T, m *machine) {
	m.must("create", "--name", "copy", busybox, "cat", "/root/f")
	defer m.must("rm", "-f", "copy")
	from, to := filepath.Join(m.dir, "from"), filepath.Join(m.dir, "to")
	if err := os.WriteFile(from, []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	m.must("cp", from, "copy:/root/f")
	want(t, "what was copied in", m.must("start", "-a", "copy"), "text")
	m.must("cp", "copy:/root/f", to)
	if data, err := os.ReadFile(to); err != nil || string(data) != "text" {
		t.Errorf("copied out: %q, %v", data, err)
	}
	if r := m.docker("cp", "copy:/nothing", to); r.code == 0 || !strings.Contains(r.err, "Could not find the file /nothing in container copy") {
		t.Errorf("got %+v", r)
	}
	contains(t, "changes", m.must("diff", "copy"), "A /root/f")
}

func testImages(t *testing.T, m *machine) {
	m.must("pull", "-q", busybox)
	id := m.must("image", "inspect", "-f", "{{.Id}}", busybox)
	contains(t, "id", id, "sha256:")
	tar := filepath.Join(m.dir, "image.tar")
	m.must("tag", busybox, "127.0.0.1:5000/mine/copy:2")
	m.must("push", "-q", "127.0.0.1:5000/mine/copy:2")
	m.must("rmi", "127.0.0.1:5000/mine/copy:2")
	m.must("pull", "-q", "127.0.0.1:5000/mine/copy:2")
	m.must("save", "-o", tar, "127.0.0.1:5000/mine/copy:2")
	m.must("rmi", "127.0.0.1:5000/mine/copy:2")
	contains(t, "load", m.must("load", "-i", tar), "127.0.0.1:5000/mine/copy:2")
	want(t, "the same image", m.must("image", "inspect", "-f", "{{.Id}}", "127.0.0.1:5000/mine/copy:2"), id)
	m.must("rmi", "127.0.0.1:5000/mine/copy:2")
	contains(t, "history", m.must("history", busybox), `CMD ["sh"]`)
	if err := os.WriteFile(tar, []byte("no tar"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := m.docker("load", "-i", tar); r.code == 0 {
		t.Errorf("a file that is no tar: %+v", r)
	}
}

func testInfo(t *testing.T, m *machine) {
	want(t, "version", m.must("version", "-f", "{{.Server.Version}}"), "1.2.3")
	out := m.must("info", "-f", "{{.Driver}} {{.LiveRestoreEnabled}} {{.Labels}} {{.OSType}} {{.Swarm.LocalNodeState}} {{.DefaultRuntime}}")
	want(t, "info", out, "overlayfs true [suite=engine] linux inactive runc")
	contains(t, "df", m.must("system", "df"), "Images", "Containers", "Local Volumes", "Build Cache")
	m.must("system", "df", "-v")
}

func testLimits(t *testing.T, m *machine) {
	m.must("run", "-d", "--name", "limits", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "50", busybox, "sleep", "600")
	defer m.must("rm", "-f", "limits")
	want(t, "inspect", m.must("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}", "limits"), "67108864 500000000 50")
	contains(t, "stats", m.must("stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "limits"), "64MiB 1")
	m.must("update", "--memory", "96m", "--memory-swap", "96m", "limits")
	contains(t, "stats", m.must("stats", "--no-stream", "--format", "{{.MemUsage}}", "limits"), "96MiB")
	contains(t, "top", m.must("top", "limits"), "sleep 600")
	if r := m.docker("exec", "limits", "sh", "-c", "x=$(yes | head -c 200000000)"); r.code != 137 {
		t.Errorf("more memory than there is: %+v", r)
	}
	m.eventually("the event", func() bool {
		return strings.Contains(m.must("events", "--since", "1h", "--until", "0s", "--filter", "container=limits", "--filter", "event=oom", "--format", "{{.Action}}"), "oom")
	})
}

func testNetworks(t *testing.T, m *machine) {
	m.must("network", "create", "--label", "x=y", "front")
	defer m.must("network", "rm", "front")
	m.must("run", "-d", "--name", "server", "--network", "front", "--network-alias", "api", busybox, "sleep", "600")
	defer m.must("rm", "-f", "server")
	for _, name := range []string{"server", "api"} {
		contains(t, name, m.must("run", "--rm", "--network", "front", busybox, "ping", "-c1", "-W2", name), "1 packets received")
	}
	want(t, "none", m.must("run", "--rm", "--network", "none", busybox, "ls", "/sys/class/net"), "lo")
	m.must("network", "connect", "bridge", "server")
	contains(t, "two networks", m.must("exec", "server", "ls", "/sys/class/net"), "eth0", "eth1")
	m.must("network", "disconnect", "bridge", "server")
	contains(t, "ls", m.must("network", "ls", "--format", "{{.Name}}"), "bridge", "host", "none", "front")
	contains(t, "inspect", m.must("network", "inspect", "front"), `"Name": "server"`)
}

func testRestartPolicy(t *testing.T, m *machine) {
	m.must("run", "-d", "--name", "again", "--restart", "on-failure:2", busybox, "false")
	defer m.must("rm", "-f", "again")
	m.eventually("two restarts", func() bool {
		return m.must("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "again") == "2 exited"
	})
}

func testEvents(t *testing.T, m *machine) {
	id := m.must("create", "--name", "told", busybox, "sh", "-c", "exit 5")
	m.docker("start", "-a", "told")
	m.must("rm", "told")
	lines := strings.Split(m.must("events", "--since", "1h", "--until", "-2s", "--filter", "type=container", "--filter", "container="+id,
		"--format", "{{.Action}}"), "\n")
	want(t, "events", strings.Join(lines, " "), "create attach start die destroy")
}

func testCommit(t *testing.T, m *machine) {
	m.must("run", "--name", "base", busybox, "sh", "-c", "echo new > /added")
	defer m.must("rm", "base")
	contains(t, "commit", m.must("commit", "-c", `CMD ["cat", "/added"]`, "base", "made:1"), "sha256:")
	defer m.must("rmi", "made:1")
	want(t, "the image", m.must("run", "--rm", "made:1"), "new")
	tar := filepath.Join(m.dir, "export.tar")
	m.must("export", "-o", tar, "base")
	contains(t, "import", m.must("import", tar, "imported:1"), "sha256:")
	want(t, "the import", m.must("run", "--rm", "imported:1", "cat", "/added"), "new")
	m.must("rmi", "imported:1")
}

func testLifecycle(t *testing.T, m *machine) {
	m.must("create", "--name", "life", busybox, "sh", "-c", "trap 'exit 5' TERM; while true; do sleep 0.1; done")
	status := func() string {
		return m.must("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "life")
	}
	want(t, "created", status(), "created 0")
	m.must("start", "life")
	want(t, "started", status(), "running 0")
	m.must("pause", "life")
	want(t, "paused", status(), "paused 0")
	m.must("unpause", "life")
	m.must("restart", "-t", "5", "life")
	want(t, "restarted", status(), "running 0")
	m.must("stop", "life")
	want(t, "stopped", status(), "exited 5")
	m.must("start", "life")
	m.must("kill", "-s", "KILL", "life")
	want(t, "wait", m.must("wait", "life"), "137")
	m.must("rename", "life", "afterlife")
	contains(t, "ps", m.must("ps", "-a", "--format", "{{.Names}} {{.Status}}"), "afterlife Exited (137)")
	m.must("rm", "afterlife")
}

// TestContainersOutliveTheEngine kills the engine, and ends it, under containers that run, end and are to be restarted.
func TestContainersOutliveTheEngine(t *testing.T) {
	m := newMachine(t)
	m.must("run", "-d", "--name", "counts", "-p", "8080:80", busybox, "sh", "-c",
		"echo page > /tmp/index.html; httpd -p 80 -h /tmp; trap 'exit 5' TERM; i=0; while true; do i=$((i+1)); echo line $i; sleep 0.1; done")
	m.must("run", "-d", "--name", "ends", busybox, "sh", "-c", "sleep 1; echo bye; exit 7")
	m.must("run", "-d", "--name", "always", "--restart", "always", busybox, "sleep", "0.3")
	m.say("kill")
	want(t, "published while there is no engine", m.say("get http://127.0.0.1:8080/"), "page")
	m.say("start")
	want(t, "wait", m.must("wait", "ends"), "7")
	want(t, "what was written meanwhile", m.must("logs", "ends"), "bye")
	want(t, "running", m.must("inspect", "-f", "{{.State.Status}}", "counts"), "running")
	want(t, "exec", m.must("exec", "counts", "echo", "in"), "in")
	lines := strings.Split(m.must("logs", "counts"), "\n")
	for i, line := range lines {
		if line != "line "+strconv.Itoa(i+1) {
			t.Fatalf("line %d is %q", i+1, line)
		}
	}
	m.eventually("the restart policy goes on", func() bool {
		return m.must("inspect", "-f", "{{.State.Running}}", "always") == "true"
	})
	want(t, "published", m.say("get http://127.0.0.1:8080/"), "page")
	m.say("stop")
	m.say("start")
	want(t, "running after an orderly end", m.must("inspect", "-f", "{{.State.Status}}", "counts"), "running")
	m.must("stop", "counts")
	want(t, "exit code", m.must("inspect", "-f", "{{.State.ExitCode}}", "counts"), "5")
	m.must("rm", "-f", "counts", "ends", "always")
	want(t, "what is left", m.must("ps", "-aq"), "")
}

// testLogDrivers sends output to a syslog of the test's; what was sent can be read back.
func testLogDrivers(t *testing.T, m *machine) {
	socket := filepath.Join(m.dir, "syslog")
	server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	m.must("run", "--name", "told", "--log-driver", "syslog", "--log-opt", "syslog-address=unixgram://"+socket, "--log-opt", "tag={{.Name}}",
		"--log-opt", "syslog-facility=local0", busybox, "sh", "-c", "echo out; echo err >&2")
	defer m.must("rm", "told")
	var got []string
	for range 2 {
		buf := make([]byte, 1024)
		_ = server.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := server.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(buf[:n]))
	}
	slices.Sort(got) // the two streams are read apart
	if !strings.HasPrefix(got[0], "<131>") || !strings.HasSuffix(got[0], "]: err\n") || !strings.HasPrefix(got[1], "<134>") || !strings.Contains(got[1], " told[") {
		t.Errorf("the server got %q", got)
	}
	r := m.docker("logs", "told")
	if r.out != "out" || r.err != "err" {
		t.Errorf("read back: %+v", r)
	}
	r = m.docker("run", "--rm", "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://127.0.0.1:9", busybox, "true")
	if r.code != 125 || !strings.Contains(r.err, "failed to initialize logging driver") {
		t.Errorf("without a server: %+v", r)
	}
	m.must("run", "--name", "zipped", "--log-opt", "max-size=2k", "--log-opt", "max-file=3", "--log-opt", "compress=true", busybox, "seq", "200")
	defer m.must("rm", "zipped")
	lines := strings.Fields(m.must("logs", "zipped"))
	if len(lines) < 40 || lines[len(lines)-1] != "200" {
		t.Errorf("of a rotated log there are %d lines", len(lines))
	}
	if files, _ := filepath.Glob(filepath.Join(m.dir, "data/containers/*/*.log.*.gz")); len(files) != 2 {
		t.Errorf("compressed files: %q", files)
	}
}

func testInit(t *testing.T, m *machine) {
	m.must("run", "-d", "--name", "init", "--init", busybox, "sleep", "600")
	defer m.must("rm", "-f", "init")
	contains(t, "top", m.must("top", "init"), "/sbin/docker-init -- sleep 600")
	want(t, "inspect", m.must("inspect", "-f", "{{.HostConfig.Init}} {{.Path}}", "init"), "true sleep")
	m.must("stop", "init") // sleep alone would ignore SIGTERM as the first process
	want(t, "exit code", m.must("inspect", "-f", "{{.State.ExitCode}}", "init"), "143")
}
