//go:build linux

package runtime

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/getberth/berth/engine/logs"
	"github.com/getberth/berth/engine/runtime/shim"
)

func requireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("requires root: makes containers")
	}
}

// bench is a runtime with a root filesystem to run.
type bench struct {
	testing.TB
	*Service
	dir    string
	rootfs string
}

func newBench(t testing.TB) *bench {
	requireRoot(t)
	b := &bench{TB: t, dir: t.TempDir()}
	s, err := New(Config{ExecRoot: filepath.Join(b.dir, "exec"), Shim: testShim})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b.Service = s
	b.rootfs = filepath.Join(b.dir, "rootfs")
	makeRootFS(t, b.rootfs)
	return b
}

// makeRootFS makes a root filesystem of the host's static busybox.
func makeRootFS(t testing.TB, root string) {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("needs Debian's package busybox-static: %v", err)
	}
	for _, dir := range []string{"bin", "proc", "sys", "dev", "tmp", "etc", "root"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields("sh true false echo cat sleep sync ls id stty kill env dd head tail yes seq hostname mount test printf tty nproc ps mkdir touch grep") {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "noexec"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "garbage"), []byte("not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func randomID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// fixture is one container of a test.
type fixture struct {
	*bench
	id   string
	log  logs.Config
	spec *specs.Spec
	opts shim.Create
}

// container prepares one that runs args; change adapts it before it is made.
func (b *bench) container(args []string, change ...func(*shim.Create)) *fixture {
	b.Helper()
	id := randomID()
	c := shim.Create{
		ID: id, Spec: spec(b.rootfs, args...),
		Log: logs.Config{Driver: "json-file", Path: filepath.Join(b.dir, id+".log"), MaxFile: 1},
	}
	c.Spec.Linux.CgroupsPath = "/berth-test/" + id
	for _, f := range change {
		f(&c)
	}
	f := &fixture{bench: b, id: id, log: c.Log, spec: c.Spec, opts: c}
	b.Cleanup(f.cleanUp)
	return f
}

func (f *fixture) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := f.Delete(ctx, f.id); err != nil {
		f.Errorf("deleting %s: %v", f.id, err)
	}
	if left := f.leftovers(); len(left) > 0 {
		f.Errorf("left behind: %v", left)
	}
	for _, dir := range testGroups() {
		os.Remove(filepath.Join(dir, "berth-test"))
	}
}

func testGroups() []string {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*")
	return append(dirs, "/sys/fs/cgroup") // files among them do no harm
}

// leftovers are the traces of a container on the host.
func (f *fixture) leftovers() (left []string) {
	for _, dir := range testGroups() {
		if path := filepath.Join(dir, "berth-test", f.id); exists(path) {
			left = append(left, path)
		}
	}
	if bundle := filepath.Join(f.bundles, f.id); exists(bundle) {
		left = append(left, bundle)
	}
	if mounts, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(mounts, []byte(f.id)) {
		left = append(left, "a mount")
	}
	// A supervisor may take a moment to end.
	for range 100 {
		pids := processesWith(f.id)
		if len(pids) == 0 {
			return left
		}
		time.Sleep(20 * time.Millisecond)
	}
	return append(left, fmt.Sprint("processes ", processesWith(f.id)))
}

// processesWith finds processes by a piece of their command line.
func processesWith(text string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if b, _ := os.ReadFile(file); bytes.Contains(b, []byte(text)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func spec(rootfs string, args ...string) *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: rootfs},
		Process: &specs.Process{
			Args: args, Cwd: "/", Env: []string{"PATH=/bin", "HOME=/root"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Hostname: "test",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace},
			},
			MaskedPaths:   []string{"/proc/kcore"},
			ReadonlyPaths: []string{"/proc/sys"},
		},
	}
}

func (f *fixture) create() *fixture {
	f.Helper()
	if err := f.Create(f.ctx(), f.opts); err != nil {
		f.Fatal(err)
	}
	return f
}

func (f *fixture) start() *fixture {
	f.Helper()
	if pid, err := f.Start(f.ctx(), f.id); err != nil || pid <= 0 {
		f.Fatal(pid, err)
	}
	return f
}

func (f *fixture) wait() shim.Exit {
	f.Helper()
	exit, err := f.Wait(f.ctx(), f.id)
	if err != nil {
		f.Fatal(err)
	}
	return exit
}

// ctx ends long before the test run does, so that a hang shows where it is.
func (f *fixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	f.Cleanup(cancel)
	return ctx
}

// client is an attached client.
type client struct {
	out, err safeBuffer
	ended    chan error
}

// attach connects a client and returns when it cannot miss anything any more.
func (f *fixture) attach(stdin *os.File) *client {
	f.Helper()
	c := &client{ended: make(chan error, 1)}
	streams := shim.Streams{Stdout: &c.out, Stderr: &c.err}
	if stdin != nil {
		streams.Stdin = stdin
	}
	attached, returned := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(returned)
		c.ended <- f.Attach(f.ctx(), f.id, streams, attached)
	}()
	select {
	case <-attached:
	case <-returned: // at once, when the container has ended
		select {
		case <-attached:
		default:
			f.Fatal("attach ended unattached:", <-c.ended)
		}
	}
	return c
}

func (c *client) wait(t testing.TB) {
	t.Helper()
	if err := <-c.ended; err != nil {
		t.Error("attach:", err)
	}
}

// safeBuffer may be read while it is written; until waits for text.
type safeBuffer struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	waiting []chan struct{}
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.waiting {
		close(c)
	}
	b.waiting = nil
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *safeBuffer) until(t testing.TB, text string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		b.mu.Lock()
		found := strings.Contains(b.buf.String(), text)
		more := make(chan struct{})
		b.waiting = append(b.waiting, more)
		b.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("%q did not come, only %q", text, b.String())
		}
	}
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func (f *fixture) logged() string {
	f.Helper()
	var b strings.Builder
	err := logs.Read(context.Background(), f.log, logs.Query{Tail: -1}, func(l logs.Line) error {
		b.Write(l.Text)
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	return b.String()
}

// runOutput runs a container to its end and returns what it has written.
func (f *fixture) runOutput() (out, errOut string, exit shim.Exit) {
	f.Helper()
	f.create()
	c := f.attach(nil)
	f.start()
	exit = f.wait()
	c.wait(f)
	return c.out.String(), c.err.String(), exit
}

func (f *fixture) exec(p *specs.Process, s shim.Streams) (int, error) {
	return f.Exec(f.ctx(), f.id, shim.Exec{ID: randomID(), Process: p}, s, func(int) {})
}

func process(args ...string) *specs.Process {
	return &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}}
}

// helper runs the test program as something else, see runHelper.
func helper(t testing.TB, name string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), append(env, helperVariable+"="+name)...)
	cmd.Stderr = os.Stderr
	return cmd
}
