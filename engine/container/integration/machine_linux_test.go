package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	ctr "github.com/getberth/berth/engine/container"
	"github.com/getberth/berth/engine/events"
	"github.com/getberth/berth/engine/image"
	"github.com/getberth/berth/engine/network"
	"github.com/getberth/berth/engine/runtime"
	"github.com/getberth/berth/engine/volume"
	"github.com/getberth/berth/test/images"
)

// insideVariable tells the test program that it is process 1 of namespaces of its own, with which everything ends.
const insideVariable = "BERTH_TEST_INSIDE"

// isolated runs the calling test again in namespaces of its own. It reports whether this is that run.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		prepare(t)
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	if _, err := os.Stat("../../runtime/embedded/berth-shim"); err != nil {
		t.Skip("the supervisor is not built: run make build")
	}
	if _, err := os.Stat(images.BusyboxPath); err != nil {
		t.Skip("busybox-static is not installed")
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), insideVariable+"=1", "TMPDIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL,
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	for _, parent := range groups("") {
		_ = os.Remove(parent)
	}
	return false
}

func prepare(t *testing.T) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = errors.Join(netlink.LinkSetUp(lo), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("proc", "/proc", "proc", 0, ""))
	}
	if err != nil {
		t.Fatal(err)
	}
}

const cgroupParent = "/berth-integration"

// groups are the control groups of a container in each hierarchy.
func groups(id string) (list []string) {
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		found, _ := filepath.Glob(filepath.Join(pattern, cgroupParent, id))
		list = append(list, found...)
	}
	return list
}

// engine is the services, wired.
type engine struct {
	*ctr.Service
	t       *testing.T
	dir     string
	runtime *runtime.Service
	images  *image.Service
	close   func()
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{t: t, dir: t.TempDir()}
	e.open()
	t.Cleanup(func() { e.close() })
	busybox, err := images.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	var tar bytes.Buffer
	if err := images.WriteDockerArchive(&tar, "busybox:latest", busybox); err != nil {
		t.Fatal(err)
	}
	if err := e.images.Load(t.Context(), &tar, nil, func(jsonstream.Message) error { return nil }); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *engine) open() {
	e.t.Helper()
	ctx := context.Background()
	check := func(err error) {
		e.t.Helper()
		if err != nil {
			e.t.Fatal(err)
		}
	}
	ev := events.New()
	root, exec := filepath.Join(e.dir, "root"), filepath.Join(e.dir, "exec")
	var err error
	e.images, err = image.Open(ctx, image.Config{Root: filepath.Join(root, "image"), Events: ev})
	check(err)
	volumes, err := volume.Open(volume.Config{Root: root, Events: ev})
	check(err)
	networks, err := network.Open(ctx, network.Config{Root: root, ExecRoot: exec, Events: ev})
	check(err)
	e.runtime, err = runtime.New(runtime.Config{ExecRoot: exec})
	check(err)
	e.Service, err = ctr.New(ctr.Config{Root: root, ExecRoot: exec, CgroupParent: cgroupParent, Log: slog.New(slog.NewTextHandler(os.Stdout, nil))},
		ctr.Deps{Images: e.images, Networks: networks, Volumes: volumes, Runtime: e.runtime, Events: ev})
	check(err)
	check(e.Recover(ctx))
	e.close = func() {
		e.Service.Close()
		e.runtime.Close()
		networks.Close()
		e.images.Close()
	}
}

// settings are what a test asks of a container.
type settings struct {
	name string
	args []string
	c    container.Config
	h    container.HostConfig
}

func (e *engine) create(s settings) string {
	e.t.Helper()
	s.c.Image, s.c.Cmd = "busybox", s.args
	got, err := e.Create(e.t.Context(), s.name, container.CreateRequest{Config: &s.c, HostConfig: &s.h}, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	return got.ID
}

func (e *engine) start(s settings) string {
	e.t.Helper()
	id := e.create(s)
	if err := e.Start(e.t.Context(), id); err != nil {
		e.t.Fatal(err)
	}
	return id
}

// run runs a container to its end, removes it, and returns its exit code and its output, attached as docker run does.
func (e *engine) run(s settings) (int, string) {
	e.t.Helper()
	s.h.AutoRemove = true
	id := e.create(s)
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	opened, attached := make(chan struct{}), make(chan error, 1)
	go func() {
		attached <- e.Attach(ctx, id, ctr.AttachOptions{Stdout: true, Stderr: true, Stream: true}, func(bool) (ctr.Streams, error) {
			defer close(opened)
			return ctr.Streams{Stdout: &out, Stderr: &out}, nil
		})
	}()
	<-opened
	removed, err := e.Wait(ctx, id, container.WaitConditionRemoved)
	if err == nil {
		err = e.Start(ctx, id)
	}
	if err != nil {
		return -1, err.Error()
	}
	if err := <-attached; err != nil {
		e.t.Error(err)
	}
	select {
	case r := <-removed:
		return r.Code, out.String()
	case <-ctx.Done():
		return -1, fmt.Sprint(ctx.Err())
	}
}

// exec runs a command in a running container.
func (e *engine) exec(id string, args ...string) (int, string) {
	e.t.Helper()
	x, err := e.ExecCreate(e.t.Context(), id, container.ExecCreateRequest{Cmd: args, AttachStdout: true, AttachStderr: true})
	if err != nil {
		e.t.Fatal(err)
	}
	var out bytes.Buffer
	err = e.ExecStart(e.t.Context(), x, ctr.ExecStartOptions{}, func(bool) (ctr.Streams, error) {
		return ctr.Streams{Stdout: &out, Stderr: &out}, nil
	})
	if err != nil {
		return -1, err.Error()
	}
	got, err := e.ExecInspect(e.t.Context(), x)
	if err != nil || got.ExitCode == nil {
		e.t.Fatal(got, err)
	}
	return *got.ExitCode, strings.TrimSpace(out.String())
}

// waitFor waits until a container has written what is wanted.
func (e *engine) waitFor(id, want string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	defer cancel()
	r, w := io.Pipe()
	go func() {
		err := e.Logs(ctx, id, ctr.LogsOptions{Stdout: true, Follow: true, Tail: -1}, func(bool) (ctr.Streams, error) { return ctr.Streams{Stdout: w}, nil })
		w.CloseWithError(err)
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		e.t.Fatalf("it says %q, not %q: %v", got, want, err)
	}
	r.Close()
}

// sweep removes every container and fails if anything of one is left on the host.
func (e *engine) sweep() {
	e.t.Helper()
	list, err := e.List(context.Background(), ctr.ListOptions{All: true})
	if err != nil {
		e.t.Fatal(err)
	}
	for _, c := range list {
		if err := e.Remove(context.Background(), c.ID, ctr.RemoveOptions{Force: true, Volumes: true}); err != nil {
			e.t.Error(err)
		}
	}
	e.Service.Close() // waits for what is cleared beside
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, filepath.Join(e.dir, "exec")) {
			e.t.Errorf("a mount is left: %s", line)
		}
	}
	for _, dir := range []string{"root/containers", "exec/containers", "exec/rootfs", "exec/netns"} {
		if left, _ := os.ReadDir(filepath.Join(e.dir, dir)); len(left) > 0 {
			e.t.Errorf("%s has %v", dir, left)
		}
	}
	if left := groups("*"); len(left) > 0 {
		for _, g := range left {
			if info, err := os.Stat(g); err == nil && info.IsDir() {
				e.t.Errorf("a control group is left: %s", g)
			}
		}
	}
}
