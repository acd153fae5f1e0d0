//go:build linux

package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/runtime/shim"
)

func running(t testing.TB, change ...func(*shim.Create)) *fixture {
	return newBench(t).container([]string{"sleep", "1000"}, change...).create().start()
}

func TestExec(t *testing.T) {
	f := running(t)
	var out, errOut safeBuffer
	pid := 0
	code, err := f.Exec(f.ctx(), f.id, shim.Exec{ID: "x", Process: process("sh", "-c", "echo out; echo err >&2; hostname; exit 9")},
		shim.Streams{Stdout: &out, Stderr: &errOut}, func(p int) { pid = p })
	if err != nil || code != 9 || pid == 0 {
		t.Fatal(code, err, pid)
	}
	if out.String() != "out\ntest\n" || errOut.String() != "err\n" {
		t.Errorf("output %q, %q", out.String(), errOut.String())
	}
	if f.logged() != "" {
		t.Error("an exec was logged")
	}
}

func TestExecErrorsReadAsRuncs(t *testing.T) {
	f := running(t)
	for _, c := range []struct {
		p    *specs.Process
		want string
	}{
		{process("foo"), `exec: "foo": executable file not found in $PATH`},
		{process("/noexec"), `exec: "/noexec": permission denied`},
		{process("/foo"), `exec: "/foo": stat /foo: no such file or directory`},
		{&specs.Process{Args: []string{"true"}, Cwd: "/nowhere"}, `no such file or directory`},
	} {
		_, err := f.exec(c.p, shim.Streams{})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "unable to start") {
			t.Errorf("%q: %v", c.p.Args, err)
		}
	}
	if _, err := f.exec(&specs.Process{}, shim.Streams{}); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}

func TestExecStdin(t *testing.T) {
	f := running(t)
	var out safeBuffer
	code, err := f.exec(process("cat"), shim.Streams{Stdin: strings.NewReader("to and fro"), Stdout: &out})
	if err != nil || code != 0 || out.String() != "to and fro" {
		t.Error(code, err, out.String())
	}
}

func TestExecInputThatFailsEndsTheInput(t *testing.T) {
	f := running(t)
	var out safeBuffer
	code, err := f.exec(process("cat"), shim.Streams{Stdin: brokenReader{}, Stdout: &out})
	if err != nil || code != 0 {
		t.Error(code, err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

func TestExecTerminal(t *testing.T) {
	f := running(t)
	p := process("sh", "-c", "stty size; read x; stty size; tty")
	p.Terminal, p.ConsoleSize = true, &specs.Box{Width: 70, Height: 20}
	r, w := pipe(t)
	var out safeBuffer
	result := make(chan error)
	go func() {
		code, err := f.Exec(f.ctx(), f.id, shim.Exec{ID: "tty", Process: p}, shim.Streams{Stdin: r, Stdout: &out}, func(int) {})
		if code != 0 {
			err = errors.Join(err, fmt.Errorf("code %d", code))
		}
		result <- err
	}()
	out.until(t, "20 70")
	if err := f.Resize(f.ctx(), f.id, "tty", 33, 44); err != nil {
		t.Error(err)
	}
	fmt.Fprintln(w, "go")
	if err := <-result; err != nil {
		t.Error(err)
	}
	if got := out.String(); got != "20 70\r\ngo\r\n44 33\r\n/dev/pts/0\r\n" {
		t.Errorf("output %q", got)
	}
}

func TestExecEndsThoughGrandchildrenHoldItsStreams(t *testing.T) {
	f := running(t)
	var out safeBuffer
	code, err := f.exec(process("sh", "-c", "sleep 500 & echo started"), shim.Streams{Stdout: &out, Stderr: io.Discard})
	if err != nil || code != 0 || out.String() != "started\n" {
		t.Error(code, err, out.String())
	}
	pids, err := f.Processes(f.ctx(), f.id)
	if err != nil || len(pids) != 2 {
		t.Errorf("processes %v, %v: want sleep twice", pids, err)
	}
}

func TestExecGoesOnWithoutItsClient(t *testing.T) {
	f := running(t)
	ctx, cancel := context.WithCancel(f.ctx())
	var out safeBuffer
	result := make(chan error)
	go func() {
		_, err := f.Exec(ctx, f.id, shim.Exec{ID: "y", Process: process("sh", "-c", "echo a; sleep 0.3; echo b; echo c >/tmp/c; sleep 1000")},
			shim.Streams{Stdout: &out}, func(int) {})
		result <- err
	}()
	out.until(t, "a\n")
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	code, err := f.exec(process("sh", "-c", "until [ -e /tmp/c ]; do sleep 0.05; done"), shim.Streams{})
	if err != nil || code != 0 {
		t.Error(code, err)
	}
}

func TestExecInWhatDoesNotRun(t *testing.T) {
	f := newBench(t).container([]string{"true"}).create()
	if _, err := f.exec(process("true"), shim.Streams{}); !errdefs.IsConflict(err) {
		t.Error("created:", err)
	}
	f.start().wait()
	if _, err := f.exec(process("true"), shim.Streams{}); !errdefs.IsConflict(err) {
		t.Error("ended:", err)
	}
}

func TestExecEndsWithItsContainer(t *testing.T) {
	f := running(t)
	result := make(chan int)
	started := make(chan struct{})
	go func() {
		code, err := f.Exec(f.ctx(), f.id, shim.Exec{ID: "z", Process: process("sleep", "1000")}, shim.Streams{}, func(int) { close(started) })
		if err != nil {
			t.Error(err)
		}
		result <- code
	}()
	<-started
	if err := f.Delete(f.ctx(), f.id); err != nil {
		t.Error(err)
	}
	if code := <-result; code != 137 {
		t.Error(code)
	}
}

func TestManyExecs(t *testing.T) {
	f := running(t)
	results := make(chan error)
	for i := range 8 {
		go func() {
			var out safeBuffer
			code, err := f.exec(process("echo", fmt.Sprint(i)), shim.Streams{Stdout: &out})
			if err == nil && (code != 0 || out.String() != fmt.Sprint(i, "\n")) {
				err = fmt.Errorf("exec %d: code %d, output %q", i, code, out.String())
			}
			results <- err
		}()
	}
	for range 8 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// An exec that is cut off in the middle of joining the container must not keep it from ending.
func TestContainerEndsWhileExecsStart(t *testing.T) {
	for i := range 10 {
		f := running(t)
		var execs sync.WaitGroup
		for range 3 {
			execs.Go(func() {
				for {
					if _, err := f.exec(process("true"), shim.Streams{}); err != nil {
						return
					}
				}
			})
		}
		time.Sleep(time.Duration(20+7*i) * time.Millisecond) // to end at different moments of their start
		if err := f.Signal(f.ctx(), f.id, int(unix.SIGKILL)); err != nil {
			t.Fatal(err)
		}
		if exit := f.wait(); exit.Code != 137 {
			t.Errorf("the container ended with %+v", exit)
		}
		execs.Wait()
	}
}
