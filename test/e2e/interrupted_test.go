//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestInterruptedCreate cuts creates off while the VM boots and while it is provisioned, by Ctrl-C and by kill -9. What is there
// can be gone on with, or removed, and nothing is left. The points between are cmd/berth's scenario `interrupted`, without a VM.
func TestInterruptedCreate(t *testing.T) {
	home, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{bin: binaries(t), home: home, store: "store"}
	t.Cleanup(func() { w.clean(t) })
	create := []string{"create", "-d", "qemu", "--qemu-memory", "512", "--qemu-cpu-count", "1", "vm1"}

	c := w.begin(t, create...)
	c.until(t, "the VM boots", w.booting)
	w.wantLocked(t, c)
	c.end(t, syscall.SIGINT)
	c.says(t, "To go on, give the same command again")

	c = w.begin(t, create...)
	c.until(t, "the VM is made", func() error { return c.has("Waiting for SSH") })
	c.end(t, syscall.SIGKILL)

	w.berth(t, create...)
	out, err := w.command("ls", "--format", "{{.Name}} {{.State}}{{.Error}}").Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != "vm1 Running" {
		t.Fatalf("a create that was gone on with made %q, %v", got, err)
	}
	w.berth(t, "rm", "-y", "vm1")

	c = w.begin(t, create...)
	c.until(t, "the VM boots", w.booting)
	c.end(t, syscall.SIGKILL)
	w.berth(t, "rm", "-y", "vm1")
	if _, err := os.Stat(filepath.Join(home, "store/machines/vm1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of what was removed: %v", err)
	}
}

// booting is an error until QEMU runs.
func (w *world) booting() error {
	_, err := os.Stat(filepath.Join(w.home, "store/machines/vm1/process.json"))
	return err
}

// wantLocked sees that rm waits for a create, and says so.
func (w *world) wantLocked(t *testing.T, create *running) {
	t.Helper()
	rm := w.begin(t, "rm", "-y", "vm1")
	rm.until(t, "rm waits", func() error {
		return rm.has(fmt.Sprintf("waiting for lock held by berth create (pid %d)", create.cmd.Process.Pid))
	})
	rm.end(t, syscall.SIGINT)
	if err := w.booting(); err != nil {
		t.Errorf("rm has not waited: %v", err)
	}
}

// running is a berth that has been started.
type running struct {
	cmd   *exec.Cmd
	out   output
	ended chan struct{}
}

func (w *world) begin(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{cmd: w.command(args...), ended: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.cmd.Wait(); close(r.ended) }()
	return r
}

// until waits for something that happens while the command runs. It looks often: where the VM is quick, the moment is short.
func (r *running) until(t *testing.T, what string, happened func() error) {
	t.Helper()
	deadline := time.After(patience)
	for {
		err := happened()
		if err == nil {
			return
		}
		select {
		case <-r.ended:
			t.Fatalf("waiting until %s: berth has ended (%v): %v\n%s", what, r.cmd.ProcessState, err, r.out.String())
		case <-deadline:
			r.end(t, syscall.SIGKILL)
			t.Fatalf("waiting until %s: %v\n%s", what, err, r.out.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// end sends a signal, and waits for the end, which must not be a success.
func (r *running) end(t *testing.T, s os.Signal) {
	t.Helper()
	r.cmd.Process.Signal(s)
	<-r.ended
	if r.cmd.ProcessState.Success() {
		t.Errorf("berth ended well in spite of signal %v:\n%s", s, r.out.String())
	}
}

func (r *running) has(text string) error {
	if got := r.out.String(); !strings.Contains(got, text) {
		return fmt.Errorf("no %q in:\n%s", text, got)
	}
	return nil
}

func (r *running) says(t *testing.T, text string) {
	t.Helper()
	if err := r.has(text); err != nil {
		t.Error(err)
	}
}

// output is what a command has said so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
