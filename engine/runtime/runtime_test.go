//go:build linux

package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/runtime/shim"
)

func TestExitCodes(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"true"}, 0},
		{[]string{"false"}, 1},
		{[]string{"sh", "-c", "exit 42"}, 42},
		{[]string{"sh", "-c", "kill -SEGV $$; exit 3"}, 3}, // the first process of a namespace is immune to its own signals
		{[]string{"/garbage"}, 255},
	} {
		f := b.container(c.args).create().start()
		if exit := f.wait(); exit.Code != c.code || exit.OOMKilled || time.Since(exit.At) > time.Minute {
			t.Errorf("%q ended with %+v, want %d", c.args, exit, c.code)
		}
		state, err := f.State(f.ctx(), f.id)
		if err != nil || state.Status != shim.Stopped || state.StartedAt.IsZero() || state.Exit == nil {
			t.Errorf("state %+v, %v", state, err)
		}
	}
}

func TestStartErrorsReadAsRuncs(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		args []string
		cwd  string
		want string
	}{
		{args: []string{"foo"}, want: `exec: "foo": executable file not found in $PATH`},
		{args: []string{"/foo"}, want: `exec: "/foo": stat /foo: no such file or directory`},
		{args: []string{"/noexec"}, want: `exec: "/noexec": permission denied`},
		{args: []string{"/etc"}, want: `exec: "/etc": is a directory`},
	} {
		f := b.container(c.args)
		err := f.Create(f.ctx(), f.opts)
		if err == nil || !strings.HasSuffix(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "OCI runtime create failed: ") {
			t.Errorf("%q: %v", c.args, err)
		}
		if left := f.leftovers(); left != nil {
			t.Errorf("%q left %v", c.args, left)
		}
	}
}

func TestSignals(t *testing.T) {
	b := newBench(t)
	script := "trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
	f := b.container([]string{"sh", "-c", script}).create()
	c := f.attach(nil)
	f.start()
	c.out.until(t, "ready")
	if err := f.Signal(f.ctx(), f.id, int(unix.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	if exit := f.wait(); exit.Code != 7 {
		t.Error(exit)
	}
	c.wait(t)
	if got := c.out.String(); got != "ready\ngot it\n" {
		t.Errorf("output %q", got)
	}
	err := f.Signal(f.ctx(), f.id, int(unix.SIGKILL))
	if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "is not running") {
		t.Error("signalling what has ended:", err)
	}
}

func TestKill(t *testing.T) {
	b := newBench(t)
	f := b.container([]string{"sleep", "1000"}).create().start()
	waits := make(chan shim.Exit)
	for range 3 {
		go func() {
			exit, err := f.Wait(f.ctx(), f.id)
			if err != nil {
				t.Error(err)
			}
			waits <- exit
		}()
	}
	if err := f.Signal(f.ctx(), f.id, int(unix.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if exit := <-waits; exit.Code != 137 {
			t.Error(exit)
		}
	}
}

func TestShortLivedContainersLoseNoOutput(t *testing.T) {
	b := newBench(t)
	count := 200
	if testing.Short() {
		count = 20
	}
	slots := make(chan struct{}, 4)
	var wg sync.WaitGroup
	for i := range count {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f := b.container([]string{"sh", "-c", fmt.Sprintf("echo out %d; echo err %d >&2", i, i)})
			out, errOut, exit := f.runOutput()
			if out != fmt.Sprintf("out %d\n", i) || errOut != fmt.Sprintf("err %d\n", i) || exit.Code != 0 {
				t.Errorf("%d: output %q, %q, %+v", i, out, errOut, exit)
			}
			if logged := f.logged(); len(logged) != len(out)+len(errOut) {
				t.Errorf("%d: logged %q", i, logged)
			}
			if err := f.Delete(f.ctx(), f.id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestMuchOutput(t *testing.T) {
	b := newBench(t)
	f := b.container([]string{"seq", "1", "300000"})
	out, _, _ := f.runOutput()
	if want := 1988895; len(out) != want || f.logged() != out {
		t.Errorf("%d bytes came, %d were logged, of %d", len(out), len(f.logged()), want)
	}
}

func TestStalledClientHoldsBackOnlyAfterAMegabyte(t *testing.T) {
	b := newBench(t)
	// 512 KiB fit into the buffer, so that the container ends though nobody reads.
	f := b.container([]string{"sh", "-c", "head -c 524288 /dev/zero; echo done >&2"}).create()
	release := make(chan struct{})
	stalled := &stalledWriter{release: release}
	attached, ended := make(chan struct{}), make(chan error)
	go func() { ended <- f.Attach(f.ctx(), f.id, shim.Streams{Stdout: stalled}, attached) }()
	<-attached
	f.start()
	if exit := f.wait(); exit.Code != 0 {
		t.Error(exit)
	}
	if err := f.Delete(f.ctx(), f.id); err != nil { // must not cost the client its output
		t.Error(err)
	}
	close(release)
	if err := <-ended; err != nil || stalled.n != 524288 {
		t.Errorf("%d bytes, %v", stalled.n, err)
	}
}

type stalledWriter struct {
	release chan struct{}
	n       int
}

func (w *stalledWriter) Write(p []byte) (int, error) {
	<-w.release
	w.n += len(p)
	return len(p), nil
}

func TestClientThatHangsUpDoesNotHoldBack(t *testing.T) {
	b := newBench(t)
	f := b.container([]string{"sh", "-c", "seq 1 1000000"}).create()
	ctx, cancel := context.WithCancel(f.ctx())
	attached, ended := make(chan struct{}), make(chan error)
	w := &stalledWriter{release: make(chan struct{})}
	go func() { ended <- f.Attach(ctx, f.id, shim.Streams{Stdout: w}, attached) }()
	<-attached
	f.start()
	cancel()
	close(w.release)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if exit := f.wait(); exit.Code != 0 {
		t.Error(exit)
	}
}

func TestStdin(t *testing.T) {
	b := newBench(t)
	f := b.container([]string{"sh", "-c", "cat; echo end"}, func(c *shim.Create) { c.OpenStdin, c.StdinOnce = true, true }).create()
	r, w := pipe(t)
	c := f.attach(r)
	f.start()
	fmt.Fprintln(w, "hello")
	c.out.until(t, "hello\n")
	w.Close() // half-close: the output goes on
	c.wait(t)
	if got := c.out.String(); got != "hello\nend\n" {
		t.Errorf("output %q", got)
	}
	f.wait()
}

func TestStdinOnceEndsWithItsClient(t *testing.T) {
	b := newBench(t)
	f := b.container([]string{"cat"}, func(c *shim.Create) { c.OpenStdin, c.StdinOnce = true, true }).create()
	ctx, cancel := context.WithCancel(f.ctx())
	r, _ := pipe(t)
	attached, ended := make(chan struct{}), make(chan error)
	go func() { ended <- f.Attach(ctx, f.id, shim.Streams{Stdin: r}, attached) }()
	<-attached
	f.start()
	cancel()
	<-ended
	if exit := f.wait(); exit.Code != 0 {
		t.Error(exit)
	}
}

func TestOpenStdinStaysOpen(t *testing.T) {
	b := newBench(t)
	f := b.container([]string{"sh", "-c", "read a; echo $a; read b; echo $b"}, func(c *shim.Create) { c.OpenStdin = true }).create()
	watch := f.attach(nil)
	f.start()
	for _, word := range []string{"one", "two"} {
		r, w := pipe(t)
		c := f.attach(r)
		fmt.Fprintln(w, word)
		w.Close()
		c.wait(t) // its session ends, the container's stdin does not
	}
	watch.wait(t)
	if got := watch.out.String(); got != "one\ntwo\n" {
		t.Errorf("output %q", got)
	}
}

func TestNoStdinReadsAsEmpty(t *testing.T) {
	b := newBench(t)
	if out, _, exit := b.container([]string{"sh", "-c", "cat; echo end"}).runOutput(); out != "end\n" || exit.Code != 0 {
		t.Error(out, exit)
	}
}

func withTerminal(c *shim.Create) {
	c.OpenStdin = true
	c.Spec.Process.Terminal = true
	c.Spec.Process.ConsoleSize = &specs.Box{Width: 91, Height: 17}
}

func TestTerminal(t *testing.T) {
	b := newBench(t)
	script := "stty size; tty; echo err >&2; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done"
	f := b.container([]string{"sh", "-c", script}, withTerminal).create()
	c := f.attach(nil)
	f.start()
	c.out.until(t, "ready")
	if err := f.Resize(f.ctx(), f.id, "", 80, 25); err != nil {
		t.Fatal(err)
	}
	if exit := f.wait(); exit.Code != 5 {
		t.Error(exit)
	}
	c.wait(t)
	if got := c.out.String(); got != "17 91\r\n/dev/pts/0\r\nerr\r\nready\r\n25 80\r\n" {
		t.Errorf("output %q", got)
	}
	if got := f.logged(); got != c.out.String() {
		t.Errorf("log %q", got)
	}
}

func TestTerminalTakesInput(t *testing.T) {
	b := newBench(t)
	f := b.container([]string{"sh"}, withTerminal).create()
	r, w := pipe(t)
	c := f.attach(r)
	f.start()
	fmt.Fprintln(w, "echo $((40+2)); exit 3")
	if exit := f.wait(); exit.Code != 3 {
		t.Error(exit)
	}
	c.wait(t)
	if !strings.Contains(c.out.String(), "\r\n42\r\n") {
		t.Errorf("output %q", c.out.String())
	}
}

func TestResizeWithoutTerminal(t *testing.T) {
	b := newBench(t)
	f := b.container([]string{"sleep", "1000"}).create().start()
	if err := f.Resize(f.ctx(), f.id, "", 1, 1); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	if err := f.Resize(f.ctx(), f.id, "nope", 1, 1); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}

func TestAttachToWhatHasEnded(t *testing.T) {
	b := newBench(t)
	f := b.container([]string{"true"}).create().start()
	f.wait()
	c := f.attach(nil)
	c.wait(t)
}

func TestUnknownContainers(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	if state, err := b.State(ctx, "absent"); err != nil || state.Status != shim.Unknown {
		t.Error(state, err)
	}
	if err := b.Delete(ctx, "absent"); err != nil {
		t.Error(err)
	}
	if _, err := b.Wait(ctx, "absent"); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if err := b.Signal(ctx, "absent", 9); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if err := b.Signal(ctx, "../absent", 9); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}

func TestCreateTwice(t *testing.T) {
	b := newBench(t)
	f := b.container([]string{"sleep", "1000"}).create()
	if err := f.Create(f.ctx(), f.opts); !errdefs.IsAlreadyExists(err) {
		t.Error(err)
	}
	f.start()
	if err := f.Create(f.ctx(), f.opts); !errdefs.IsAlreadyExists(err) {
		t.Error(err)
	}
	if err := f.Signal(f.ctx(), f.id, 9); err != nil {
		t.Error(err)
	}
	f.wait()
	f.create().start() // what had ended was cleared
	if _, err := f.Start(f.ctx(), f.id); !errdefs.IsInvalidArgument(err) {
		t.Error("second start:", err)
	}
}

func TestDeleteWithoutStart(t *testing.T) {
	b := newBench(t)
	f := b.container([]string{"true"}).create()
	state, err := f.State(f.ctx(), f.id)
	if err != nil || state.Status != shim.Created || state.PID != 0 {
		t.Error(state, err)
	}
	if err := f.Delete(f.ctx(), f.id); err != nil {
		t.Error(err)
	}
	if left := f.leftovers(); left != nil {
		t.Error(left)
	}
}

func TestDeleteLeavesAMountedRootAlone(t *testing.T) {
	b := newBench(t)
	f := b.container([]string{"true"})
	root := filepath.Join(b.bundles, f.id, "rootfs")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(b.rootfs, root, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Unmount(root, unix.MNT_DETACH)
		os.Remove(root)
		os.Remove(filepath.Dir(root))
	})
	f.opts.Spec.Root.Path = root
	f.create().start().wait()
	if err := f.Delete(f.ctx(), f.id); err != nil {
		t.Fatal(err)
	}
	if !exists(filepath.Join(b.rootfs, "bin/busybox")) {
		t.Error("files of the container were removed")
	}
	unix.Unmount(root, unix.MNT_DETACH)
	os.Remove(root)
	os.Remove(filepath.Dir(root))
}

func TestLongExecRoot(t *testing.T) {
	requireRoot(t)
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	s, err := New(Config{ExecRoot: dir, Shim: testShim})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{TB: t, Service: s, dir: t.TempDir()}
	b.rootfs = filepath.Join(b.dir, "rootfs")
	makeRootFS(t, b.rootfs)
	if exit := b.container([]string{"true"}).create().start().wait(); exit.Code != 0 {
		t.Error(exit)
	}
}

func TestMissingSupervisor(t *testing.T) {
	if _, err := embedded.Open("embedded/berth-shim"); err == nil {
		t.Skip("the supervisor is embedded")
	}
	if _, err := New(Config{ExecRoot: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Error(err)
	}
}
