//go:build linux

package container

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/getberth/berth/engine/logs"
)

func opener(s Streams) Opener { return func(bool) (Streams, error) { return s, nil } }

func TestAttachBeforeStart(t *testing.T) {
	r := newRig(t)
	id := r.create("xx", nil)
	done, attached := make(chan error, 1), make(chan struct{})
	go func() {
		done <- r.Attach(t.Context(), id, AttachOptions{Stdout: true, Stream: true}, func(bool) (Streams, error) {
			defer close(attached)
			return Streams{Stdout: io.Discard}, nil
		})
	}()
	<-attached
	c, _ := r.reg.find(id)
	for { // the queue is the last thing that Attach does before it waits
		c.mu.Lock()
		n := len(c.pending)
		c.mu.Unlock()
		if n > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := r.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.runtime.attached, []string{"created"}) {
		t.Errorf("it was attached when the container was %v", r.runtime.attached)
	}
	r.runtime.exit(id, 0)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestDetach(t *testing.T) {
	r := newRig(t)
	id := r.run("xx", func(c *container.Config, _ *container.HostConfig) { c.Tty, c.OpenStdin = true, true })
	err := r.Attach(t.Context(), id, AttachOptions{Stdin: true, Stdout: true, Stream: true},
		opener(Streams{Stdin: iotest.OneByteReader(strings.NewReader("ab\x10\x11never")), Stdout: io.Discard}))
	if err != nil || r.events.last(events.ActionDetach).Actor.ID != id {
		t.Errorf("detaching gives %v", err)
	}
	r.runtime.mu.Lock()
	if got := r.runtime.stdin.String(); strings.Contains(got, "never") || !strings.HasPrefix(got, "ab") {
		t.Errorf("the container got %q", got)
	}
	r.runtime.mu.Unlock()
	if r.status(id) != container.StateRunning {
		t.Error("it does not run any more")
	}
	if _, err := detachKeys("ctrl-?"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad keys: %v", err)
	}
}

func TestExec(t *testing.T) {
	r := newRig(t)
	id := r.run("xx", nil)
	ctx := t.Context()
	r.runtime.execCode = 5
	if _, err := r.ExecCreate(ctx, id, container.ExecCreateRequest{}); !errdefs.IsInvalidArgument(err) || err.Error() != "No exec command specified" {
		t.Errorf("without a command: %v", err)
	}
	exec, err := r.ExecCreate(ctx, id, container.ExecCreateRequest{Cmd: []string{"echo", "out"}, AttachStdout: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := r.Inspect(ctx, id, false); !slices.Equal(got.ExecIDs, []string{exec}) {
		t.Errorf("inspect shows execs %v", got.ExecIDs)
	}
	var out bytes.Buffer
	if err := r.ExecStart(ctx, exec, ExecStartOptions{}, opener(Streams{Stdout: &out})); err != nil {
		t.Fatal(err)
	}
	got, err := r.ExecInspect(ctx, exec)
	if err != nil || out.String() != "out\n" || got.ExitCode == nil || *got.ExitCode != 5 || got.Running || got.ProcessConfig.Entrypoint != "echo" {
		t.Errorf("%q, %+v, %v", out.String(), got, err)
	}
	if e := r.events.last("exec_create: echo out"); e.Actor.Attributes["execID"] != exec {
		t.Error("there is no exec_create event")
	}
	if e := r.events.last(events.ActionExecDie); e.Actor.Attributes["exitCode"] != "5" {
		t.Errorf("exec_die has %v", e.Actor.Attributes)
	}
	if err := r.ExecStart(ctx, exec, ExecStartOptions{}, opener(Streams{})); !errdefs.IsConflict(err) {
		t.Errorf("starting it again: %v", err)
	}
	exec, err = r.ExecCreate(ctx, id, container.ExecCreateRequest{Cmd: []string{"id"}, User: "nobody-here", Tty: true})
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	err = r.ExecStart(ctx, exec, ExecStartOptions{TTY: false}, func(tty bool) (Streams, error) {
		if taken++; tty {
			t.Error("the stream is raw because the command was prepared with a terminal, not because its start asked for that")
		}
		return Streams{}, nil
	})
	if err == nil || !strings.Contains(err.Error(), "nobody-here") || taken != 1 {
		t.Errorf("as an unknown user: %v, the connection was taken over %d times", err, taken)
	}
	if got, _ := r.ExecInspect(ctx, exec); got.ExitCode == nil || *got.ExitCode != 126 {
		t.Errorf("as an unknown user: %+v", got)
	}
	r.exits(id, 0)
	if _, err := r.ExecCreate(ctx, id, container.ExecCreateRequest{Cmd: []string{"x"}}); !errdefs.IsConflict(err) || !strings.HasSuffix(err.Error(), "is not running") {
		t.Errorf("in a container that has ended: %v", err)
	}
}

func TestLogs(t *testing.T) {
	r := newRig(t)
	id := r.run("xx", nil)
	w, err := logs.Open(logs.Config{Driver: "json-file", Path: r.logPath(id), MaxFile: 1})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	w.Write(logs.Stdout, []byte("one\n"), at)
	w.Write(logs.Stderr, []byte("two\n"), at.Add(time.Second))
	w.Write(logs.Stdout, []byte("three\n"), at.Add(2*time.Second))
	w.Close()
	read := func(o LogsOptions) (string, string) {
		t.Helper()
		var out, errs bytes.Buffer
		if err := r.Logs(t.Context(), id, o, opener(Streams{Stdout: &out, Stderr: &errs})); err != nil {
			t.Fatal(err)
		}
		return out.String(), errs.String()
	}
	if out, errs := read(LogsOptions{Stdout: true, Stderr: true, Tail: -1}); out != "one\nthree\n" || errs != "two\n" {
		t.Errorf("logs are %q and %q", out, errs)
	}
	if out, _ := read(LogsOptions{Stdout: true, Tail: 1, Timestamps: true}); out != "2026-01-02T03:04:07.000000006Z three\n" {
		t.Errorf("the tail is %q", out)
	}
	w, _ = logs.Open(logs.Config{Driver: "json-file", Path: r.logPath(r.run("tty", func(c *container.Config, _ *container.HostConfig) { c.Tty = true })), MaxFile: 1})
	w.Write(logs.Stdout, []byte("all of it\n"), at)
	w.Close()
	var out bytes.Buffer
	err = r.Logs(t.Context(), "tty", LogsOptions{Stderr: true, Tail: -1}, opener(Streams{Stdout: &out, Stderr: &out}))
	if err != nil || out.Len() > 0 {
		t.Errorf("the errors of a terminal, which has one stream only: %q, %v", out.String(), err)
	}
	followed := make(chan string)
	go func() {
		out, _ := read(LogsOptions{Stdout: true, Tail: -1, Follow: true})
		followed <- out
	}()
	r.exits(id, 0)
	if out := <-followed; out != "one\nthree\n" {
		t.Errorf("followed is %q", out)
	}
	if err := r.Logs(t.Context(), id, LogsOptions{}, opener(Streams{})); !errdefs.IsInvalidArgument(err) {
		t.Errorf("without a stream: %v", err)
	}
}

func TestArchive(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	r := newRig(t)
	ctx := t.Context()
	host := t.TempDir()
	id := r.create("xx", func(_ *container.Config, h *container.HostConfig) {
		h.Binds = []string{"data:/srv/data", host + ":/host:ro"}
	})
	pack := func(name, text string) io.Reader {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text)), Typeflag: tar.TypeReg})
		w.Write([]byte(text))
		w.Close()
		return &buf
	}
	if err := r.PutArchive(ctx, id, "/srv/data", pack("f", "hello"), false, false); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(filepath.Join(r.volumes.dir, "data", "f")); string(text) != "hello" {
		t.Errorf("the volume has %q", text)
	}
	if err := r.PutArchive(ctx, id, "/host", pack("f", "x"), false, false); !errdefs.IsPermissionDenied(err) {
		t.Errorf("writing to a read-only bind: %v", err)
	}
	st, err := r.StatPath(ctx, id, "/srv/data/f")
	if err != nil || st.Name != "f" || st.Size != 5 {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := r.StatPath(ctx, id, "/nope"); !errdefs.IsNotFound(err) || err.Error() != "Could not find the file /nope in container "+id {
		t.Errorf("a missing file: %v", err)
	}
	stream, st, err := r.GetArchive(ctx, id, "/srv/data/.")
	if err != nil || !st.Mode.IsDir() {
		t.Fatal(st, err)
	}
	data, err := io.ReadAll(stream)
	if err != nil || !bytes.Contains(data, []byte("hello")) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	stream.Close()
	if err := r.Remove(ctx, id, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestHealth(t *testing.T) {
	r := newRig(t)
	id := r.run("xx", func(c *container.Config, _ *container.HostConfig) {
		c.Healthcheck = &container.HealthConfig{Test: []string{"CMD-SHELL", "check"}, Interval: time.Millisecond, Retries: 2}
	})
	seen := func(want container.HealthStatus) *container.Health {
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if got, _ := r.Inspect(t.Context(), id, false); got.State.Health.Status == want {
				return got.State.Health
			}
		}
		t.Fatalf("it never becomes %s", want)
		return nil
	}
	h := seen(container.Healthy)
	if len(h.Log) == 0 || h.Log[0].Output != "out\n" || h.FailingStreak != 0 {
		t.Errorf("health is %+v", h)
	}
	r.runtime.mu.Lock()
	r.runtime.execCode = 1
	r.runtime.mu.Unlock()
	if h := seen(container.Unhealthy); h.FailingStreak < 2 || len(h.Log) > healthLogKept {
		t.Errorf("health is %+v", h)
	}
	if e := r.events.last("health_status: unhealthy"); e.Actor.ID != id {
		t.Error("there is no event")
	}
	if err := r.Stop(t.Context(), id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestNextHealth(t *testing.T) {
	now := &container.Health{Status: container.Starting}
	bad, good := &container.HealthcheckResult{ExitCode: 1}, &container.HealthcheckResult{}
	if h := nextHealth(now, bad, true, 1); h.Status != container.Starting || h.FailingStreak != 0 {
		t.Errorf("a failure at the start counts: %+v", h)
	}
	if h := nextHealth(now, bad, false, 2); h.Status != container.Starting || h.FailingStreak != 1 {
		t.Errorf("one failure of two: %+v", h)
	}
	if h := nextHealth(now, good, true, 2); h.Status != container.Healthy {
		t.Errorf("a success: %+v", h)
	}
}
