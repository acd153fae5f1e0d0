package api

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	ctr "github.com/getberth/berth/engine/container"
	evt "github.com/getberth/berth/engine/events"
	"github.com/getberth/berth/engine/filter"
	img "github.com/getberth/berth/engine/image"
)

// fakeContainers answers what a test sets, and panics on what it does not: the server must survive that too.
type fakeContainers struct {
	Containers
	create   func(name string, req container.CreateRequest, p *ocispec.Platform) (container.CreateResponse, error)
	list     func(ctr.ListOptions) ([]container.Summary, error)
	inspect  func(ref string) (container.InspectResponse, error)
	start    func(ref string) error
	stop     func(ref string, o ctr.StopOptions) error
	wait     func(ctx context.Context, condition container.WaitCondition) (<-chan ctr.WaitResult, error)
	attach   func(ctx context.Context, o ctr.AttachOptions, open ctr.Opener) error
	exec     func(ctx context.Context, o ctr.ExecStartOptions, open ctr.Opener) error
	logs     func(o ctr.LogsOptions, open ctr.Opener) error
	resize   func(w, h uint16) error
	export   func(w io.Writer) error
	connect  func(networkRef, ref string, want *network.EndpointSettings) error
	statPath func(path string) (container.PathStat, error)
	put      func(path string, tar io.Reader) error
}

func (f *fakeContainers) Create(_ context.Context, name string, req container.CreateRequest, p *ocispec.Platform) (container.CreateResponse, error) {
	return f.create(name, req, p)
}
func (f *fakeContainers) List(_ context.Context, o ctr.ListOptions) ([]container.Summary, error) {
	return f.list(o)
}
func (f *fakeContainers) Inspect(_ context.Context, ref string, _ bool) (container.InspectResponse, error) {
	return f.inspect(ref)
}
func (f *fakeContainers) Start(_ context.Context, ref string) error { return f.start(ref) }
func (f *fakeContainers) Stop(_ context.Context, ref string, o ctr.StopOptions) error {
	return f.stop(ref, o)
}
func (f *fakeContainers) Wait(ctx context.Context, _ string, c container.WaitCondition) (<-chan ctr.WaitResult, error) {
	return f.wait(ctx, c)
}
func (f *fakeContainers) Attach(ctx context.Context, _ string, o ctr.AttachOptions, open ctr.Opener) error {
	return f.attach(ctx, o, open)
}
func (f *fakeContainers) ExecStart(ctx context.Context, _ string, o ctr.ExecStartOptions, open ctr.Opener) error {
	return f.exec(ctx, o, open)
}
func (f *fakeContainers) Logs(_ context.Context, _ string, o ctr.LogsOptions, open ctr.Opener) error {
	return f.logs(o, open)
}
func (f *fakeContainers) Resize(_ context.Context, _ string, w, h uint16) error {
	return f.resize(w, h)
}
func (f *fakeContainers) Export(_ context.Context, _ string, w io.Writer) error { return f.export(w) }
func (f *fakeContainers) ConnectNetwork(_ context.Context, n, ref string, want *network.EndpointSettings) error {
	return f.connect(n, ref, want)
}
func (f *fakeContainers) StatPath(_ context.Context, _, path string) (container.PathStat, error) {
	return f.statPath(path)
}
func (f *fakeContainers) PutArchive(_ context.Context, _, path string, tar io.Reader, _, _ bool) error {
	return f.put(path, tar)
}

type fakeImages struct {
	Images
	pull  func(ref string, auth *registry.AuthConfig, progress img.Progress) error
	list  func(img.ListOptions) ([]image.Summary, error)
	save  func(refs []string, w io.Writer) error
	tag   func(source, target string) error
	login func(registry.AuthConfig) (registry.AuthResponse, error)
}

func (f *fakeImages) Pull(_ context.Context, ref string, _ *ocispec.Platform, auth *registry.AuthConfig, p img.Progress) error {
	return f.pull(ref, auth, p)
}
func (f *fakeImages) List(_ context.Context, o img.ListOptions) ([]image.Summary, error) {
	return f.list(o)
}
func (f *fakeImages) Save(_ context.Context, refs []string, _ []ocispec.Platform, w io.Writer) error {
	return f.save(refs, w)
}
func (f *fakeImages) Tag(_ context.Context, source, target string) error {
	return f.tag(source, target)
}
func (f *fakeImages) Login(_ context.Context, a registry.AuthConfig) (registry.AuthResponse, error) {
	return f.login(a)
}

type fakeNetworks struct {
	Networks
	networks []network.Summary
}

func (f *fakeNetworks) List(context.Context, filter.Args) ([]network.Summary, error) {
	return f.networks, nil
}

type fakeVolumes struct {
	Volumes
	pruned filter.Args
}

func (f *fakeVolumes) List(context.Context, filter.Args) (volume.ListResponse, error) {
	return volume.ListResponse{}, nil
}
func (f *fakeVolumes) Prune(_ context.Context, args filter.Args) (volume.PruneReport, error) {
	f.pruned = args
	return volume.PruneReport{}, nil
}

type fakeSystem struct{}

func (fakeSystem) Info(context.Context) (system.Info, error) {
	return system.Info{Name: "host", RuncCommit: system.Commit{ID: "r1"}}, nil
}
func (fakeSystem) Version(context.Context) (system.VersionResponse, error) {
	return system.VersionResponse{Version: "1"}, nil
}
func (fakeSystem) DiskUsage(_ context.Context, _ []string, verbose bool) (system.DiskUsage, error) {
	u := system.DiskUsage{ImageUsage: &image.DiskUsage{TotalCount: 1, TotalSize: 5}}
	if verbose {
		u.ImageUsage.Items = []image.Summary{{ID: "sha256:1", Size: 5}}
	}
	return u, nil
}

// engine is a server over fakes.
type engine struct {
	containers *fakeContainers
	images     *fakeImages
	networks   *fakeNetworks
	volumes    *fakeVolumes
	events     *evt.Service
	server     *httptest.Server
	log        *lockedBuffer
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{containers: &fakeContainers{}, images: &fakeImages{}, networks: &fakeNetworks{}, volumes: &fakeVolumes{},
		events: evt.New(), log: &lockedBuffer{}}
	e.server = httptest.NewServer(e.handler())
	t.Cleanup(e.server.Close)
	return e
}

func (e *engine) handler() *Server {
	return New(Options{
		Backends: Backends{Containers: e.containers, Images: e.images, Networks: e.networks, Volumes: e.volumes,
			System: fakeSystem{}, Events: e.events},
		Version: "test", Log: slog.New(slog.NewTextHandler(e.log, nil)),
	})
}

// do sends a request and returns the status and the body.
func (e *engine) do(t *testing.T, method, path, body string, header ...string) (int, string) {
	t.Helper()
	res := e.send(t, method, path, body, header...)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return res.StatusCode, strings.TrimSpace(string(data))
}

func (e *engine) send(t *testing.T, method, path, body string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, e.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := e.server.Client().Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return res
}

// overUnix serves on a unix socket, and returns a function that connects.
func (e *engine) overUnix(t *testing.T) func() net.Conn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: e.handler()}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	return func() net.Conn {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}

func startEvent(id string) events.Message {
	return events.Message{Type: events.ContainerEventType, Action: events.ActionStart,
		Actor: events.Actor{ID: id, Attributes: map[string]string{"image": "busybox", "name": "web"}}}
}
