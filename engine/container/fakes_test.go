//go:build linux

package container

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/getberth/berth/engine/runtime/shim"
)

// fakeImages has one image, "busybox"; a root filesystem is a folder with accounts.
type fakeImages struct {
	dir    string
	config dockerspec.DockerOCIImageConfig

	mu       sync.Mutex
	prepared map[string]bool
}

const fakeImageID = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

func (f *fakeImages) Config(_ context.Context, ref string, _ *ocispec.Platform) (string, dockerspec.DockerOCIImage, error) {
	if ref != "busybox" && ref != fakeImageID {
		return "", dockerspec.DockerOCIImage{}, errdefs.ErrNotFound.WithMessage("No such image: " + ref)
	}
	return fakeImageID, dockerspec.DockerOCIImage{Config: f.config}, nil
}

func (f *fakeImages) PrepareRootFS(_ context.Context, key, _ string, _ *ocispec.Platform) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.prepared[key] = true
	return nil
}

func (f *fakeImages) MountRootFS(_ context.Context, key, target string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.prepared[key] {
		return errdefs.ErrNotFound
	}
	etc := filepath.Join(target, "etc")
	if err := os.MkdirAll(etc, 0o755); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(etc, "passwd"), []byte("root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n"), 0o644),
		os.WriteFile(filepath.Join(etc, "group"), []byte("root:x:0:\nann:x:1001:\nwheel:x:10:ann\n"), 0o644))
}

func (f *fakeImages) UnmountRootFS(_ context.Context, target string) error {
	return os.RemoveAll(filepath.Join(target, "etc"))
}

func (f *fakeImages) RemoveRootFS(_ context.Context, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.prepared, key)
	return nil
}

func (f *fakeImages) PrepareView(ctx context.Context, key, ref string, _ *ocispec.Platform) (string, error) {
	return fakeImageID, f.PrepareRootFS(ctx, key, ref, nil)
}

func (f *fakeImages) MountView(ctx context.Context, key, target string) error {
	return f.MountRootFS(ctx, key, target)
}

func (f *fakeImages) RemoveView(ctx context.Context, key string) error {
	return f.RemoveRootFS(ctx, key)
}

func (f *fakeImages) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.prepared)
}

func (f *fakeImages) RootFSSize(context.Context, string) (int64, int64, error) { return 5, 50, nil }

func (f *fakeImages) RootFSChanges(context.Context, string) ([]container.FilesystemChange, error) {
	return nil, nil
}

func (f *fakeImages) CommitRootFS(_ context.Context, _, _ string, c dockerspec.DockerOCIImage) (string, error) {
	return fakeImageID, nil
}

// fakeNetworks knows bridge, host, none and "own".
type fakeNetworks struct {
	mu        sync.Mutex
	sandboxes map[string]bool
	joined    map[string]int // networks of a container
	kept      []string       // what Recover was told

	resolv, afterChange string // resolv.conf now, and once a network was left
}

func (f *fakeNetworks) Resolve(_ context.Context, ref string) (string, string, string, error) {
	if ref == "default" {
		ref = "bridge"
	}
	if !slices.Contains([]string{"bridge", "host", "none", "own"}, ref) {
		return "", "", "", errdefs.ErrNotFound.WithMessage("network " + ref + " not found")
	}
	return "id-" + ref, ref, "bridge", nil
}

func (f *fakeNetworks) CreateSandbox(_ context.Context, id string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sandboxes[id] = true
	return "/netns/" + id, nil
}

func (f *fakeNetworks) Connect(ctx context.Context, container, ref string, want *network.EndpointSettings, names []string) (*network.EndpointSettings, error) {
	id, _, _, err := f.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	f.count(container, 1)
	ep := want.Copy()
	ep.NetworkID, ep.DNSNames = id, names
	ep.IPAddress, ep.Gateway = netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("172.17.0.1")
	return ep, nil
}

func (f *fakeNetworks) count(container string, more int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.joined == nil {
		f.joined = map[string]int{}
	}
	f.joined[container] += more
	return f.joined[container]
}

func (f *fakeNetworks) Disconnect(_ context.Context, container, _ string, _ bool) error {
	f.count(container, -1)
	if f.afterChange != "" {
		f.resolv = f.afterChange
	}
	return nil
}

func (f *fakeNetworks) Publish(_ context.Context, container string, want network.PortMap) (network.PortMap, error) {
	got := network.PortMap{}
	if f.count(container, 0) == 0 {
		return got, nil
	}
	for p, bindings := range want {
		for _, b := range bindings {
			if b.HostPort == "" {
				b.HostPort = "32768"
			}
			got[p] = append(got[p], b)
		}
	}
	return got, nil
}

func (f *fakeNetworks) DeleteSandbox(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sandboxes, id)
	return nil
}

func (f *fakeNetworks) Recover(_ context.Context, running []string) error {
	f.kept = running
	return nil
}

func (f *fakeNetworks) ResolvConf(context.Context, string, []netip.Addr, []string, []string) ([]byte, error) {
	return []byte(cmp.Or(f.resolv, "nameserver 127.0.0.11\n")), nil
}

// fakeVolumes are folders.
type fakeVolumes struct {
	dir string

	mu   sync.Mutex
	used map[string]int
}

func (f *fakeVolumes) Create(_ context.Context, req volume.CreateRequest) (volume.Volume, error) {
	if req.Name == "" {
		req.Name = newID()
	}
	return volume.Volume{Name: req.Name, Driver: "local"}, os.MkdirAll(filepath.Join(f.dir, req.Name), 0o755)
}

func (f *fakeVolumes) Use(_ context.Context, name, _ string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used[name]++
	return filepath.Join(f.dir, name), nil
}

func (f *fakeVolumes) Release(_ context.Context, name, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.used, name)
	return nil
}

func (f *fakeVolumes) Remove(_ context.Context, name string, _ bool) error {
	return os.RemoveAll(filepath.Join(f.dir, name))
}

// fakeProcess is a container's first process: it ends when a test says so, or at SIGKILL or SIGTERM.
type fakeProcess struct {
	state shim.State
	spec  *specs.Spec
	ended chan struct{}
	dull  bool // takes no SIGTERM
}

type fakeRuntime struct {
	mu        sync.Mutex
	all       map[string]*fakeProcess
	attached  []string    // ids of containers at the time of their first attach
	createErr error       // of the next Create
	began     chan string // gets the id at each Start
	autoExit  *int        // processes end with this code as soon as they start
	signals   []int
	execCode  int
	stdin     bytes.Buffer // what attached clients sent
}

func newFakeRuntime() *fakeRuntime {
	return &fakeRuntime{all: map[string]*fakeProcess{}, began: make(chan string, 100)}
}

func (f *fakeRuntime) WatchOOM(context.Context, string, func()) error { return nil }

func (f *fakeRuntime) InitProgram() (string, error) { return "/path/of/docker-init", nil }

func (f *fakeRuntime) Create(_ context.Context, c shim.Create) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.createErr != nil {
		return f.createErr
	}
	f.all[c.ID] = &fakeProcess{state: shim.State{Status: shim.Created}, spec: c.Spec, ended: make(chan struct{})}
	return nil
}

func (f *fakeRuntime) Start(_ context.Context, id string) (int, error) {
	f.mu.Lock()
	p := f.all[id]
	p.state.Status, p.state.PID, p.state.StartedAt = shim.Running, os.Getpid(), time.Now()
	auto := f.autoExit
	f.mu.Unlock()
	f.began <- id
	if auto != nil {
		f.exit(id, *auto)
	}
	return os.Getpid(), nil
}

func (f *fakeRuntime) exit(id string, code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.all[id]
	if p == nil || p.state.Status == shim.Stopped {
		return
	}
	p.state = shim.State{Status: shim.Stopped, StartedAt: p.state.StartedAt, Exit: &shim.Exit{Code: code, At: time.Now().UTC()}}
	close(p.ended)
}

func (f *fakeRuntime) Attach(ctx context.Context, id string, s shim.Streams, attached chan<- struct{}) error {
	f.mu.Lock()
	p := f.all[id]
	f.attached = append(f.attached, string(p.state.Status))
	f.mu.Unlock()
	close(attached)
	if s.Stdin != nil {
		go f.readStdin(s.Stdin)
	}
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeRuntime) readStdin(r io.Reader) {
	buf := make([]byte, 16)
	for {
		n, err := r.Read(buf)
		f.mu.Lock()
		f.stdin.Write(buf[:n])
		f.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (f *fakeRuntime) Exec(_ context.Context, _ string, _ shim.Exec, s shim.Streams, started func(int)) (int, error) {
	started(1)
	if s.Stdout != nil {
		s.Stdout.Write([]byte("out\n"))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.execCode, nil
}

func (f *fakeRuntime) Signal(_ context.Context, id string, sig int) error {
	f.mu.Lock()
	f.signals = append(f.signals, sig)
	p := f.all[id]
	f.mu.Unlock()
	if p == nil {
		return errdefs.ErrNotFound
	}
	if syscall.Signal(sig) == syscall.SIGKILL || syscall.Signal(sig) == syscall.SIGTERM && !p.dull {
		f.exit(id, 128+sig)
	}
	return nil
}

func (f *fakeRuntime) Resize(context.Context, string, string, uint16, uint16) error { return nil }
func (f *fakeRuntime) Pause(context.Context, string) error                          { return nil }
func (f *fakeRuntime) Resume(context.Context, string) error                         { return nil }
func (f *fakeRuntime) Update(context.Context, string, *specs.LinuxResources) error  { return nil }
func (f *fakeRuntime) Stats(context.Context, string) (container.StatsResponse, error) {
	return container.StatsResponse{}, nil
}
func (f *fakeRuntime) Processes(context.Context, string) ([]int, error) {
	return []int{os.Getpid()}, nil
}

func (f *fakeRuntime) Wait(ctx context.Context, id string) (shim.Exit, error) {
	f.mu.Lock()
	p := f.all[id]
	f.mu.Unlock()
	if p == nil {
		return shim.Exit{}, errdefs.ErrNotFound
	}
	select {
	case <-p.ended:
		f.mu.Lock()
		defer f.mu.Unlock()
		return *p.state.Exit, nil
	case <-ctx.Done():
		return shim.Exit{}, ctx.Err()
	}
}

func (f *fakeRuntime) State(ctx context.Context, id string) (shim.State, error) {
	if err := ctx.Err(); err != nil {
		return shim.State{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.all[id]; p != nil {
		return p.state, nil
	}
	return shim.State{Status: shim.Unknown}, nil
}

func (f *fakeRuntime) Delete(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, id)
	return nil
}

// fakeEvents remembers.
type fakeEvents struct {
	mu  sync.Mutex
	all []events.Message
}

func (f *fakeEvents) Publish(m events.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, m)
}

func (f *fakeEvents) actions(id string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for _, m := range f.all {
		if m.Actor.ID == id {
			list = append(list, string(m.Action))
		}
	}
	return list
}

func (f *fakeEvents) last(action events.Action) events.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range slices.Backward(f.all) {
		if m.Action == action {
			return m
		}
	}
	return events.Message{}
}

// rig is a service on fakes.
type rig struct {
	*Service
	t        *testing.T
	dir      string
	images   *fakeImages
	networks *fakeNetworks
	volumes  *fakeVolumes
	runtime  *fakeRuntime
	events   *fakeEvents
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), networks: &fakeNetworks{sandboxes: map[string]bool{}}, runtime: newFakeRuntime(), events: &fakeEvents{}}
	r.images = &fakeImages{dir: t.TempDir(), prepared: map[string]bool{}}
	r.images.config.Cmd = []string{"sh"}
	r.images.config.Env = []string{"PATH=/bin", "LANG=C"}
	r.volumes = &fakeVolumes{dir: t.TempDir(), used: map[string]int{}}
	r.open()
	t.Cleanup(func() { r.Close() })
	return r
}

// open starts an engine on what is there.
func (r *rig) open() {
	r.t.Helper()
	if err := r.openWith(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) openWith(ctx context.Context) error {
	s, err := New(Config{Root: filepath.Join(r.dir, "root"), ExecRoot: filepath.Join(r.dir, "exec"), Log: slog.New(slog.NewTextHandler(r.t.Output(), nil))},
		Deps{Images: r.images, Networks: r.networks, Volumes: r.volumes, Runtime: r.runtime, Events: r.events})
	if err == nil {
		err = s.Recover(ctx)
	}
	if s != nil {
		r.Service = s
	}
	return err
}

// reopen is what a killed engine's successor does.
func (r *rig) reopen() {
	r.Close()
	r.open()
}

func (r *rig) create(name string, change func(*container.Config, *container.HostConfig)) string {
	r.t.Helper()
	c, hc := &container.Config{Image: "busybox"}, &container.HostConfig{}
	if change != nil {
		change(c, hc)
	}
	got, err := r.Create(r.t.Context(), name, container.CreateRequest{Config: c, HostConfig: hc}, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return got.ID
}

func (r *rig) run(name string, change func(*container.Config, *container.HostConfig)) string {
	r.t.Helper()
	id := r.create(name, change)
	if err := r.Start(r.t.Context(), id); err != nil {
		r.t.Fatal(err)
	}
	<-r.runtime.began
	return id
}

func (r *rig) status(ref string) container.ContainerState {
	r.t.Helper()
	got, err := r.Inspect(r.t.Context(), ref, false)
	if err != nil {
		r.t.Fatal(err)
	}
	return got.State.Status
}

// exits ends a container's process and waits until the service knows.
func (r *rig) exits(id string, code int) {
	r.t.Helper()
	done, err := r.Wait(r.t.Context(), id, container.WaitConditionNextExit)
	if err != nil {
		r.t.Fatal(err)
	}
	r.runtime.exit(id, code)
	<-done
}
