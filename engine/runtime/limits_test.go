//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/runtime/shim"
)

func withMemory(limit int64) func(*shim.Create) {
	return func(c *shim.Create) {
		c.Spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}}
	}
}

// requireController skips where the kernel does not offer a cgroup controller.
func requireController(t *testing.T, b *bench, name string) {
	t.Helper()
	if b.cgroups.v2 {
		data, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
		if !strings.Contains(string(data), name) {
			t.Skipf("requires the cgroup controller %s", name)
		}
		return
	}
	if b.cgroups.roots[name] == "" {
		t.Skipf("requires the cgroup controller %s", name)
	}
}

func TestOutOfMemory(t *testing.T) {
	b := newBench(t)
	requireController(t, b, "memory")
	f := b.container([]string{"sh", "-c", "x=$(yes | head -c 100000000); echo survived"}, withMemory(24<<20))
	out, _, exit := f.runOutput()
	if exit.Code != 137 || !exit.OOMKilled {
		t.Errorf("%+v, output %q", exit, out)
	}
}

// TestWatchOOM tells of a process that was killed while the container goes on.
func TestWatchOOM(t *testing.T) {
	b := newBench(t)
	requireController(t, b, "memory")
	f := b.container([]string{"sleep", "1000"}, withMemory(24<<20)).create().start()
	told, ended := make(chan struct{}, 64), make(chan error, 1)
	go func() { ended <- f.WatchOOM(f.ctx(), f.id, func() { told <- struct{}{} }) }()
	for killed := false; !killed; { // the watch may begin after the first
		if code, err := f.exec(process("sh", "-c", "x=$(yes | head -c 100000000)"), shim.Streams{}); code != 137 || err != nil {
			t.Fatal(code, err)
		}
		select {
		case <-told:
			killed = true
		case err := <-ended:
			t.Fatal("the watch has ended:", err)
		default:
		}
	}
	if err := f.Signal(f.ctx(), f.id, int(unix.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestPause(t *testing.T) {
	f := running(t)
	if err := f.Resume(f.ctx(), f.id); !errdefs.IsInvalidArgument(err) {
		t.Error("resuming what runs:", err)
	}
	if err := f.Pause(f.ctx(), f.id); err != nil {
		t.Fatal(err)
	}
	if state, err := f.State(f.ctx(), f.id); err != nil || state.Status != shim.Paused {
		t.Error(state, err)
	}
	if err := f.Pause(f.ctx(), f.id); !errdefs.IsInvalidArgument(err) {
		t.Error("pausing twice:", err)
	}
	if _, err := f.exec(process("true"), shim.Streams{}); !errdefs.IsInvalidArgument(err) {
		t.Error("exec while paused:", err)
	}
	if err := f.Resume(f.ctx(), f.id); err != nil {
		t.Fatal(err)
	}
	if code, err := f.exec(process("true"), shim.Streams{}); code != 0 || err != nil {
		t.Error(code, err)
	}
}

func TestKillWhilePaused(t *testing.T) {
	f := running(t)
	if err := f.Pause(f.ctx(), f.id); err != nil {
		t.Fatal(err)
	}
	if err := f.Signal(f.ctx(), f.id, int(unix.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if exit := f.wait(); exit.Code != 137 {
		t.Error(exit)
	}
}

func TestDeleteWhilePaused(t *testing.T) {
	f := running(t)
	if err := f.Pause(f.ctx(), f.id); err != nil {
		t.Fatal(err)
	}
	if err := f.Delete(f.ctx(), f.id); err != nil {
		t.Error(err)
	}
}

func TestStats(t *testing.T) {
	b := newBench(t)
	requireController(t, b, "memory")
	f := b.container([]string{"sleep", "1000"}, withMemory(64<<20)).create().start()
	st, err := f.Stats(f.ctx(), f.id)
	if err != nil {
		t.Fatal(err)
	}
	if st.MemoryStats.Limit != 64<<20 || st.MemoryStats.Usage == 0 || st.CPUStats.CPUUsage.TotalUsage == 0 ||
		st.PidsStats.Current == 0 || st.CPUStats.SystemUsage == 0 || st.CPUStats.OnlineCPUs == 0 || st.Read.IsZero() {
		t.Errorf("%+v", st)
	}
	if err := f.Signal(f.ctx(), f.id, 9); err != nil {
		t.Fatal(err)
	}
	f.wait()
	if err := f.Delete(f.ctx(), f.id); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Stats(f.ctx(), f.id); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}

func TestStatsWithoutLimit(t *testing.T) {
	f := running(t)
	st, err := f.Stats(f.ctx(), f.id)
	if err != nil {
		t.Fatal(err)
	}
	if total, _ := memTotal(); st.MemoryStats.Limit != total {
		t.Errorf("limit %d of %d", st.MemoryStats.Limit, total)
	}
}

func TestUpdate(t *testing.T) {
	b := newBench(t)
	requireController(t, b, "memory")
	f := b.container([]string{"sleep", "1000"}, withMemory(64<<20)).create().start()
	limit, shares, pids := int64(128<<20), uint64(512), int64(77)
	err := f.Update(f.ctx(), f.id, &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}, CPU: &specs.LinuxCPU{Shares: &shares}, Pids: &specs.LinuxPids{Limit: &pids},
	})
	if err != nil {
		t.Fatal(err)
	}
	st, err := f.Stats(f.ctx(), f.id)
	if err != nil || st.MemoryStats.Limit != 128<<20 || st.PidsStats.Limit != 77 {
		t.Errorf("%+v, %v", st, err)
	}
	if code, err := f.exec(process("true"), shim.Streams{}); code != 0 || err != nil {
		t.Error("exec after update:", code, err)
	}
	if err := f.Update(f.ctx(), f.id, &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "999"}}); err == nil {
		t.Error("CPU 999 was given")
	}
	if state, err := f.State(f.ctx(), f.id); err != nil || state.Status != shim.Running {
		t.Error(state, err)
	}
}

func TestSpecIsObeyed(t *testing.T) {
	b := newBench(t)
	readonly := func(c *shim.Create) { c.Spec.Root.Readonly = true }
	nofile := func(c *shim.Create) {
		c.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}}
	}
	user := func(c *shim.Create) { c.Spec.Process.User = specs.User{UID: 12, GID: 34, AdditionalGids: []uint32{56}} }
	sysctl := func(c *shim.Create) {
		c.Spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "99"}
	}
	noNewPrivileges := func(c *shim.Create) { c.Spec.Process.NoNewPrivileges = true }
	forbidden := func(c *shim.Create) {
		errno := uint(unix.EXDEV)
		c.Spec.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64},
			Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: &errno}},
		}
		if arch := hostArch(); arch != "" {
			c.Spec.Linux.Seccomp.Architectures = []specs.Arch{arch}
		}
	}
	for _, c := range []struct {
		name, script, want string
		change             func(*shim.Create)
	}{
		{"read-only root", "touch /x 2>&1 || true", "touch: /x: Read-only file system\n", readonly},
		{"limits", "ulimit -Sn; ulimit -Hn", "100\n200\n", nofile},
		{"user", "id -u; id -g; id -G", "12\n34\n34 56\n", user},
		{"user may open stdout again", "echo a >/dev/stdout", "a\n", user},
		{"masked path", "head -c 1 /proc/kcore | wc -c", "0\n", readonly},
		{"read-only path", "echo 1 2>&1 >/proc/sys/kernel/domainname || echo no", "sh: can't create /proc/sys/kernel/domainname: Read-only file system\nno\n", readonly},
		{"sysctl", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "99\n", sysctl},
		{"no new privileges", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n", noNewPrivileges},
		{"seccomp", "mkdir /x 2>&1 || true", "mkdir: can't create directory '/x': Invalid cross-device link\n", forbidden},
		{"capabilities", "grep CapEff /proc/self/status", "CapEff:\t00000000000004eb\n", readonly},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bench{TB: t, Service: b.Service, dir: b.dir, rootfs: b.rootfs}
			out, errOut, exit := b.container([]string{"sh", "-c", c.script}, c.change).runOutput()
			if out != c.want || exit.Code != 0 {
				t.Errorf("output %q, %q, exit %+v, want %q", out, errOut, exit, c.want)
			}
		})
	}
}

func hostArch() specs.Arch {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return map[string]specs.Arch{"x86_64": specs.ArchX86_64, "aarch64": specs.ArchAARCH64}[unix.ByteSliceToString(u.Machine[:])]
}

func withoutNamespace(kind specs.LinuxNamespaceType, path string) func(*shim.Create) {
	return func(c *shim.Create) {
		list := c.Spec.Linux.Namespaces[:0]
		for _, ns := range c.Spec.Linux.Namespaces {
			if ns.Type != kind {
				list = append(list, ns)
			}
		}
		if path != "" {
			list = append(list, specs.LinuxNamespace{Type: kind, Path: path})
		}
		c.Spec.Linux.Namespaces = list
	}
}

func TestHostPIDNamespaceLeavesNothingRunning(t *testing.T) {
	b := newBench(t)
	f := b.container([]string{"sh", "-c", "sleep 999 & echo $$"}, withoutNamespace(specs.PIDNamespace, "")).create()
	c := f.attach(nil)
	pid, err := f.Start(f.ctx(), f.id)
	if err != nil {
		t.Fatal(err)
	}
	if exit := f.wait(); exit.Code != 0 {
		t.Error(exit)
	}
	c.wait(t)
	if want := strconv.Itoa(pid) + "\n"; c.out.String() != want {
		t.Errorf("pid %q, want %q", c.out.String(), want)
	}
	if pids := processesWith("sleep\x00999"); len(pids) != 0 {
		t.Error("left running:", pids)
	}
}

func TestNamespaceByPath(t *testing.T) {
	b := newBench(t)
	first := b.container([]string{"sleep", "1000"}).create()
	pid, err := first.Start(first.ctx(), first.id)
	if err != nil {
		t.Fatal(err)
	}
	proc := "/proc/" + strconv.Itoa(pid) + "/ns/"
	want, err := os.Readlink(proc + "net")
	if err != nil {
		t.Fatal(err)
	}
	second := b.container([]string{"busybox", "readlink", "/proc/self/ns/net"},
		withoutNamespace(specs.NetworkNamespace, proc+"net"), withoutNamespace(specs.IPCNamespace, proc+"ipc"), withoutNamespace(specs.PIDNamespace, proc+"pid"))
	if out, _, exit := second.runOutput(); out != want+"\n" || exit.Code != 0 {
		t.Errorf("in %q, want %q; %+v", out, want, exit)
	}
}

func TestPrivileged(t *testing.T) {
	b := newBench(t)
	all := func(c *shim.Create) {
		caps := []string{"CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_SYS_CHROOT", "CAP_NET_ADMIN"}
		c.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
		c.Spec.Linux.MaskedPaths, c.Spec.Linux.ReadonlyPaths = nil, nil
		c.Spec.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}}
		mode := os.FileMode(0o666)
		major, minor := int64(1), int64(11) // kmsg
		c.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/mine", Type: "c", Major: major, Minor: minor, FileMode: &mode}}
		for i, m := range c.Spec.Mounts {
			if m.Destination == "/sys" {
				c.Spec.Mounts[i].Options = []string{"nosuid", "noexec", "nodev", "rw"}
			}
		}
	}
	f := b.container([]string{"sh", "-c", "mount -t tmpfs x /tmp && test -c /dev/mine && touch /tmp/y && echo fine"}, all)
	if out, errOut, exit := f.runOutput(); out != "fine\n" || exit.Code != 0 {
		t.Error(out, errOut, exit)
	}
}

func TestDeviceCgroupForbids(t *testing.T) {
	b := newBench(t)
	f := b.container([]string{"sh", "-c", "head -c 1 /dev/mine 2>&1"}, func(c *shim.Create) {
		mode := os.FileMode(0o666)
		c.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/mine", Type: "c", Major: 1, Minor: 11, FileMode: &mode}}
		c.Spec.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}
	})
	out, _, exit := f.runOutput()
	if !strings.Contains(out, "not permitted") || exit.Code == 0 {
		t.Error(out, exit)
	}
}

// TestUnified runs the tests again where only cgroup v2 is mounted.
func TestUnified(t *testing.T) {
	b := newBench(t)
	if b.cgroups.v2 {
		t.Skip("cgroup v2 is what the other tests run with")
	}
	cmd := helper(t, "unified", "BERTH_SHIM="+testShim)
	cmd.Stderr = nil
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// runUnified runs tests on a host as it is with cgroup v2 only. Its controllers may be taken by v1: tests of limits skip then.
func runUnified() int {
	goruntime.LockOSThread() // the mount namespace is this thread's
	err := errors.Join(
		unix.Unshare(unix.CLONE_NEWNS),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH),
		unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Other threads, where tests run, are of the old namespace.
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.short", "-test.skip", "^TestUnified$")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, helperVariable+"=") })
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
