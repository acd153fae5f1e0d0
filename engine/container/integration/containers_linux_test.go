package integration

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	ctr "github.com/getberth/berth/engine/container"
)

func sh(script string) []string { return []string{"sh", "-c", script} }

// TestSettings holds what a setting does in the container, seen from inside.
func TestSettings(t *testing.T) {
	if !isolated(t) {
		return
	}
	e := newEngine(t)
	host := t.TempDir()
	os.WriteFile(filepath.Join(host, "f"), []byte("host\n"), 0o644)
	truth := true
	for name, c := range map[string]struct {
		s    settings
		code int
		want string // of the output, a regular expression
	}{
		"output":            {settings{args: sh("echo out; echo err >&2; exit 3")}, 3, `out\nerr\n|err\nout\n`},
		"not found":         {settings{args: []string{"nope"}}, -1, `exec: "nope": executable file not found in \$PATH`},
		"not a program":     {settings{args: []string{"/etc/passwd"}}, -1, `exec: "/etc/passwd": permission denied`},
		"environment":       {settings{args: sh(`echo "$PATH $HOSTNAME $HOME $A"`), c: container.Config{Env: []string{"A=b"}, Hostname: "me"}}, 0, `^/\S+ me /root b\n`},
		"user":              {settings{args: []string{"id"}, c: container.Config{User: "77:88"}, h: container.HostConfig{GroupAdd: []string{"99"}}}, 0, `uid=77 gid=88 groups=88,99`},
		"unknown user":      {settings{args: []string{"id"}, c: container.Config{User: "ghost"}}, -1, `unable to find user ghost: no matching entries in passwd file`},
		"working dir":       {settings{args: []string{"pwd"}, c: container.Config{WorkingDir: "/a/b"}}, 0, `^/a/b\n`},
		"capabilities":      {settings{args: []string{"grep", "CapEff", "/proc/self/status"}, h: container.HostConfig{CapDrop: []string{"ALL"}, CapAdd: []string{"chown", "kill"}}}, 0, `0000000000000021`},
		"seccomp":           {settings{args: []string{"grep", "Seccomp:", "/proc/self/status"}}, 0, `2`},
		"unconfined":        {settings{args: []string{"grep", "Seccomp:", "/proc/self/status"}, h: container.HostConfig{SecurityOpt: []string{"seccomp=unconfined"}}}, 0, `0`},
		"no privileges":     {settings{args: []string{"grep", "NoNewPrivs", "/proc/self/status"}, h: container.HostConfig{SecurityOpt: []string{"no-new-privileges"}}}, 0, `1`},
		"masked":            {settings{args: sh("ls /sys/firmware | wc -l; echo 1 > /proc/sys/net/ipv4/ip_forward")}, 1, `^0\n.*Read-only|Read-only.*\n0\n`},
		"privileged":        {settings{args: sh("echo 1 > /proc/sys/net/ipv4/ip_forward && mount -t tmpfs none /tmp && ls -l /dev/kmsg"), h: container.HostConfig{Privileged: true}}, 0, `/dev/kmsg`},
		"read-only":         {settings{args: []string{"touch", "/x"}, h: container.HostConfig{ReadonlyRootfs: true}}, 1, `Read-only file system`},
		"bind":              {settings{args: sh("cat /h/f; echo in > /h/g"), h: container.HostConfig{Binds: []string{host + ":/h"}}}, 0, `host`},
		"bind, ro":          {settings{args: sh("exec 2>&1; cat /h/f; echo x > /h/f"), h: container.HostConfig{Binds: []string{host + ":/h:ro"}}}, 1, `(?s)host.*Read-only|Read-only.*host`},
		"bind of a file":    {settings{args: []string{"cat", "/etc/motd"}, h: container.HostConfig{Mounts: []mount.Mount{{Type: "bind", Source: host + "/f", Target: "/etc/motd"}}}}, 0, `host`},
		"volume, filled":    {settings{args: sh("ls /etc"), h: container.HostConfig{Binds: []string{"etc:/etc"}}}, 0, `passwd`},
		"tmpfs":             {settings{args: sh("df -k /t | tail -1; stat -c %a /t"), h: container.HostConfig{Tmpfs: map[string]string{"/t": "size=64k,mode=1770"}}}, 0, `tmpfs +64 [^$]*1770`},
		"shm":               {settings{args: sh("df -k /dev/shm | tail -1"), h: container.HostConfig{ShmSize: 1 << 20}}, 0, `shm +1024`},
		"ulimit":            {settings{args: sh("ulimit -n"), h: container.HostConfig{Resources: container.Resources{Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}}}}}, 0, `^100\n`},
		"sysctl":            {settings{args: []string{"cat", "/proc/sys/net/core/somaxconn"}, h: container.HostConfig{Sysctls: map[string]string{"net.core.somaxconn": "77"}}}, 0, `^77\n`},
		"device":            {settings{args: sh("echo x > /dev/mine && ls -l /dev/mine"), h: container.HostConfig{Resources: container.Resources{Devices: []container.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/mine"}}}}}, 0, `1, +3`},
		"no network":        {settings{args: sh("ls /sys/class/net"), h: container.HostConfig{NetworkMode: "none"}}, 0, `^lo\n$`},
		"bridge":            {settings{args: sh("ip -4 addr show eth0; cat /etc/hosts; ping -c1 -W5 172.17.0.1")}, 0, `172\.17\.0\.\d+/16[^$]*172\.17\.0\.\d+\t[0-9a-f]{12}\n[^$]*1 packets received`},
		"extra host":        {settings{args: []string{"cat", "/etc/hosts"}, h: container.HostConfig{ExtraHosts: []string{"db:10.1.2.3", "up:host-gateway"}}}, 0, `10\.1\.2\.3\tdb\n172\.17\.0\.1\tup\n`},
		"host network":      {settings{args: sh("ls /sys/class/net"), h: container.HostConfig{NetworkMode: "host"}}, 0, `docker0`},
		"own pids":          {settings{args: sh("echo $$")}, 0, `^1\n`},
		"host's pids":       {settings{args: sh("echo $$"), h: container.HostConfig{PidMode: "host"}}, 0, `^\d\d+\n|^[2-9]\n`},
		"memory":            {settings{args: sh("cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"), h: container.HostConfig{Resources: container.Resources{Memory: 32 << 20}}}, 0, `^33554432\n`},
		"killed for memory": {settings{args: sh("head -c 90m /dev/zero | tail"), h: container.HostConfig{Resources: container.Resources{Memory: 16 << 20, MemorySwap: 16 << 20}}}, 137, ``},
		"umask":             {settings{args: sh("umask"), h: container.HostConfig{Umask: &[]uint32{0o077}[0]}}, 0, `^0077\n`},
		"terminal":          {settings{args: sh("tty; echo $TERM"), c: container.Config{Tty: true}}, 0, `^/dev/pts/0\r\nxterm\r\n`},
		"init":              {settings{args: sh("cat /proc/1/comm; echo $$; exit 9"), h: container.HostConfig{Init: &truth}}, 9, `^docker-init\n[2-9]\n`},
		"init, killed":      {settings{args: sh("kill -USR1 $$"), h: container.HostConfig{Init: &truth}}, 138, ``},
		"init, as a user":   {settings{args: []string{"id", "-u"}, c: container.Config{User: "77"}, h: container.HostConfig{Init: &truth, ReadonlyRootfs: true}}, 0, `^77\n`},
		"init, reaps":       {settings{args: sh("sh -c 'sleep 0 & exec sleep 0.3' & sleep 0.6; ps -o stat,comm"), h: container.HostConfig{Init: &truth}}, 0, `^[^Z]*$`},
		"init, terminal":    {settings{args: sh("tty; ps -o pgid,tpgid,comm 2>/dev/null; stty -a >/dev/null && echo foreground"), c: container.Config{Tty: true}, h: container.HostConfig{Init: &truth}}, 0, `/dev/pts/0[^$]*foreground`},
		"init, not found":   {settings{args: []string{"nope"}, h: container.HostConfig{Init: &truth}}, 127, `docker-init: exec nope: No such file or directory`},
		"init, shared pids": {settings{args: sh("echo $$"), h: container.HostConfig{Init: &truth, PidMode: "host"}}, 0, `^\d+\n`},
	} {
		t.Run(name, func(t *testing.T) {
			inner := *e
			inner.t = t
			code, out := inner.run(c.s)
			if code != c.code || !regexp.MustCompile(c.want).MatchString(out) {
				t.Errorf("exit code %d, want %d; output, which should match %s:\n%s", code, c.code, c.want, out)
			}
		})
	}
	if text, _ := os.ReadFile(filepath.Join(host, "g")); string(text) != "in\n" {
		t.Errorf("the host's folder has %q", text)
	}
	e.sweep()
}

// TestLife runs containers that go on for a while.
func TestLife(t *testing.T) {
	if !isolated(t) {
		return
	}
	e := newEngine(t)
	ctx := t.Context()
	id := e.start(settings{name: "main", args: sh("trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"), h: container.HostConfig{IpcMode: "shareable"}})

	t.Run("exec", func(t *testing.T) {
		if code, out := e.exec(id, "sh", "-c", "echo $HOSTNAME; exit 4"); code != 4 || out != id[:12] {
			t.Errorf("%d %q", code, out)
		}
		if code, out := e.exec(id, "nope"); code != -1 || !strings.Contains(out, `exec: "nope": executable file not found in $PATH`) {
			t.Errorf("%d %q", code, out)
		}
	})
	t.Run("shared namespaces", func(t *testing.T) {
		mode := "container:main"
		code, out := e.run(settings{args: sh("ps; hostname; echo x > /dev/shm/shared"),
			h: container.HostConfig{NetworkMode: container.NetworkMode(mode), PidMode: container.PidMode(mode), IpcMode: container.IpcMode(mode)}})
		if code != 0 || !strings.Contains(out, "trap") || !strings.Contains(out, id[:12]) {
			t.Errorf("%d %s", code, out)
		}
		if _, out := e.exec(id, "cat", "/dev/shm/shared"); out != "x" {
			t.Errorf("/dev/shm is not shared: %q", out)
		}
	})
	t.Run("pause", func(t *testing.T) {
		if err := e.Pause(ctx, id); err != nil {
			t.Fatal(err)
		}
		if _, err := e.ExecCreate(ctx, id, container.ExecCreateRequest{Cmd: []string{"true"}}); err == nil {
			t.Error("a command runs in a paused container")
		}
		if err := e.Unpause(ctx, id); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("update", func(t *testing.T) {
		if _, err := e.Update(ctx, id, container.UpdateConfig{Resources: container.Resources{Memory: 64 << 20, MemorySwap: -1}}); err != nil {
			t.Fatal(err)
		}
		if _, out := e.exec(id, "sh", "-c", "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"); out != "67108864" {
			t.Errorf("the limit is %s", out)
		}
	})
	t.Run("top and stats", func(t *testing.T) {
		top, err := e.Top(ctx, id, "")
		if err != nil || len(top.Processes) == 0 || top.Titles[0] != "UID" {
			t.Errorf("%+v, %v", top, err)
		}
		err = e.Stats(ctx, id, false, true, func(s container.StatsResponse) error {
			if s.MemoryStats.Usage == 0 || s.CPUStats.CPUUsage.TotalUsage == 0 || len(s.Networks) != 1 {
				t.Errorf("stats are %+v", s)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("the engine is replaced", func(t *testing.T) {
		e.close()
		e.open()
		if _, out := e.exec(id, "echo", "still"); out != "still" {
			t.Errorf("it says %q", out)
		}
	})
	t.Run("init", func(t *testing.T) {
		id := e.start(settings{args: sh("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.1; done"), h: container.HostConfig{Init: &[]bool{true}[0]}})
		e.waitFor(id, "ready\n")
		if err := e.Stop(ctx, id, ctr.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		got, err := e.Inspect(ctx, id, false)
		if err != nil || got.State.ExitCode != 7 || got.Path != "sh" {
			t.Errorf("%s %+v, %v", got.Path, got.State, err)
		}
	})
	t.Run("stop", func(t *testing.T) {
		if err := e.Stop(ctx, id, ctr.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		got, err := e.Inspect(ctx, id, false)
		if err != nil || got.State.ExitCode != 7 || got.State.Running {
			t.Errorf("%+v, %v", got.State, err)
		}
		var out bytes.Buffer
		err = e.Logs(ctx, id, ctr.LogsOptions{Stdout: true, Tail: -1}, func(bool) (ctr.Streams, error) { return ctr.Streams{Stdout: &out}, nil })
		if err != nil || out.String() != "ready\n" {
			t.Errorf("logs are %q, %v", out.String(), err)
		}
	})
	e.sweep()
}

// TestCopies reads and writes files of containers from outside.
func TestCopies(t *testing.T) {
	if !isolated(t) {
		return
	}
	e := newEngine(t)
	ctx := t.Context()
	s := settings{args: []string{"sleep", "1000"}, h: container.HostConfig{Binds: []string{"data:/data/deep"}, Tmpfs: map[string]string{"/t": ""}}}
	for name, id := range map[string]string{"stopped": e.create(s), "running": e.start(s)} {
		for _, dir := range []string{"/data/deep", "/root", "/t"} {
			if name == "stopped" && dir == "/t" {
				continue // it is not there before the start
			}
			var in bytes.Buffer
			w := tar.NewWriter(&in)
			w.WriteHeader(&tar.Header{Name: "f", Mode: 0o600, Size: 5, Typeflag: tar.TypeReg, ModTime: time.Unix(1e9, 0)})
			fmt.Fprint(w, "hello")
			w.Close()
			if err := e.PutArchive(ctx, id, dir, &in, false, false); err != nil {
				t.Errorf("%s, %s: %v", name, dir, err)
				continue
			}
			r, st, err := e.GetArchive(ctx, id, dir+"/f")
			if err != nil || st.Size != 5 || !st.Mtime.Equal(time.Unix(1e9, 0)) {
				t.Errorf("%s, %s: %+v, %v", name, dir, st, err)
				continue
			}
			out := tar.NewReader(r)
			h, err := out.Next()
			text, _ := io.ReadAll(out)
			if err != nil || h.Name != "f" || string(text) != "hello" {
				t.Errorf("%s, %s: %q, %v", name, dir, text, err)
			}
			r.Close()
		}
		var all bytes.Buffer
		if err := e.Export(ctx, id, &all); err != nil || !bytes.Contains(all.Bytes(), []byte("root/f")) {
			t.Errorf("%s: export of %d bytes, %v", name, all.Len(), err)
		}
		changes, err := e.Changes(ctx, id)
		if err != nil || !strings.Contains(fmt.Sprint(changes), "/root/f") {
			t.Errorf("%s: changes %v, %v", name, changes, err)
		}
		image, err := e.Commit(ctx, id, ctr.CommitOptions{Ref: "with:" + name, Pause: true, Changes: []string{`CMD ["cat", "/root/f"]`}})
		if err != nil || !strings.HasPrefix(image, "sha256:") {
			t.Errorf("%s: commit %s, %v", name, image, err)
		}
	}
	e.sweep()
}
