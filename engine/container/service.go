//go:build linux

package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/getberth/berth/engine/container/oci"
)

// Config says where containers live and what they get that ask for nothing.
type Config struct {
	Root     string // the engine's data root; documents and logs are in Root/containers
	ExecRoot string // root filesystems are mounted in ExecRoot/rootfs; gone after a reboot

	LogDriver       string // "json-file" when empty
	LogOpts         map[string]string
	DNS             []netip.Addr
	DNSSearch       []string
	DNSOptions      []string
	HostGateway     []netip.Addr // what host-gateway in --add-host means; the container's own gateway when empty
	Ulimits         []*container.Ulimit
	CgroupParent    string
	SeccompProfile  string // JSON, or "unconfined"; Docker's default profile when empty
	NoNewPrivileges bool
	Init            bool // containers have an init that reaps and passes signals on
	Defaults        Defaults
	StorageDriver   string // as inspect names it; "overlayfs" when empty

	Log *slog.Logger // nothing is logged when nil
}

// Deps are the services that a container is made of.
type Deps struct {
	Images   Images
	Networks Networks
	Volumes  Volumes
	Runtime  Runtime
	Events   Events
}

// Service keeps containers. It is safe for concurrent use.
//
// Each container has two locks: ops, held by one operation at a time for as long as it takes, and mu, held for moments, which
// guards its documents. Nothing slow happens under mu or under the registry's lock.
type Service struct {
	cfg   Config
	deps  Deps
	store *store
	reg   *registry
	execs *execTable
	host  oci.Host
	sys   kernel
	log   *slog.Logger

	defaults atomic.Pointer[Defaults]

	ctx    context.Context // ends with Close; what runs beside requests lives in it
	cancel context.CancelFunc
	tasks  sync.WaitGroup // what runs beside requests

	stopping atomic.Bool // the engine goes down: nothing is started again
}

const (
	defaultStopTimeout = 10 // seconds, as Docker's
	defaultLogDriver   = "json-file"
)

// privateFolder is root's alone: other users of the host could run the setuid programs of images (CVE-2021-41091 in moby).
func privateFolder(dir string) error {
	return errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700))
}

// New reads the containers' documents. One that is broken is logged and left alone. Recover must be called before anything else.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg = withDefaults(cfg)
	st, err := newStore(filepath.Join(cfg.Root, "containers"))
	if err != nil {
		return nil, err
	}
	if err := privateFolder(filepath.Join(cfg.ExecRoot, "rootfs")); err != nil {
		return nil, fmt.Errorf("making the folder of root filesystems: %w", err)
	}
	if _, err := logConfig(cfg, container.LogConfig{}, nil, ""); err != nil {
		return nil, fmt.Errorf("the engine's log options: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{
		cfg: cfg, deps: deps, store: st, reg: newRegistry(), execs: newExecTable(), host: oci.DetectHost(), sys: detectKernel(),
		log: cfg.Log, ctx: ctx, cancel: cancel,
	}
	s.SetDefaults(cfg.Defaults)
	if err := s.load(); err != nil {
		cancel()
		return nil, err
	}
	return s, nil
}

func withDefaults(cfg Config) Config {
	if cfg.LogDriver == "" {
		cfg.LogDriver = defaultLogDriver
	}
	if cfg.StorageDriver == "" {
		cfg.StorageDriver = "overlayfs"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return cfg
}

func (s *Service) load() error {
	ids, _, err := s.store.load()
	if err != nil {
		return err
	}
	for _, id := range ids {
		spec, state, err := s.store.read(id)
		if err != nil {
			s.log.Error("skipping a container whose document cannot be read", "id", id, "error", err)
			continue
		}
		if state == nil {
			s.log.Warn("a container's state cannot be read; taking it as exited", "id", id)
			state = &State{Version: documentVersion, Status: container.StateExited, ExitCode: unknownExit}
		}
		if err := s.reg.reserve(spec.Name, id); err != nil {
			s.log.Error("two containers have one name; the second is known by its id only", "id", id, "name", spec.Name)
			spec.Name = id
			if err := s.reg.reserve(id, id); err != nil {
				continue
			}
		}
		s.reg.add(newInstance(spec, state))
	}
	return nil
}

// Close ends what runs beside requests. Containers go on.
func (s *Service) Close() {
	s.cancel()
	s.tasks.Wait()
}

// Shutdown stops every container, each within its own timeout, all of them until ctx ends. Restart policies are not changed
// by it: what ran will run again.
func (s *Service) Shutdown(ctx context.Context) {
	s.stopping.Store(true)
	var all sync.WaitGroup
	for _, c := range s.reg.all() {
		_, state := c.view()
		if !state.active() {
			continue
		}
		all.Add(1)
		go func() {
			defer all.Done()
			if err := s.halt(ctx, c, StopOptions{}, false); err != nil {
				s.log.Error("stopping a container", "id", c.id, "error", err)
			}
		}()
	}
	all.Wait()
}

// background runs f beside requests, until Close.
func (s *Service) background(f func(ctx context.Context)) {
	s.tasks.Add(1)
	go func() {
		defer s.tasks.Done()
		f(s.ctx)
	}()
}

// rootfs is where a container's root filesystem is mounted while it is needed.
func (s *Service) rootfs(id string) string { return filepath.Join(s.cfg.ExecRoot, "rootfs", id) }

// shmPath is a /dev/shm that other containers may share.
func (s *Service) shmPath(id string) string {
	return filepath.Join(s.cfg.ExecRoot, "rootfs", id+".shm")
}

// tearDownTimeout bounds what clearing up one container may take, so that a stuck neighbour holds one container only.
const tearDownTimeout = 2 * time.Minute
