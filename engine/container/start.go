//go:build linux

package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sync/errgroup"

	"github.com/getberth/berth/engine/runtime/shim"
)

// Exit codes of a container that did not start, and of one whose end nobody saw.
const (
	exitNotStarted    = 128
	exitNotExecutable = 126
	exitNotFound      = 127
	unknownExit       = 255
)

// Start starts a container that does not run. The error is errdefs.ErrNotModified when it does.
func (s *Service) Start(ctx context.Context, ref string) error {
	c, _, state, unlock, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	switch {
	case state.Status == container.StatePaused:
		return conflict("cannot start a paused container, try unpause instead")
	case state.running():
		return notModified("container is already running")
	case state.Status == container.StateRemoving || state.Status == container.StateDead:
		return conflict("container is marked for removal and cannot be started")
	}
	c.cancelRetry()
	c.mu.Lock()
	c.backoff = 0
	c.mu.Unlock()
	c.setState(func(st *State) { st.RestartCount = 0 })
	return s.start(context.WithoutCancel(ctx), c)
}

// start brings a container up. The caller holds its lock.
func (s *Service) start(ctx context.Context, c *instance) error {
	spec, _ := c.view()
	l, err := s.bringUp(ctx, c, spec)
	if err != nil {
		s.startFailed(c, spec, err)
		return err
	}
	s.background(func(ctx context.Context) { s.watch(ctx, c, l) })
	s.watchHealth(c, spec, l)
	s.watchMemory(c, spec, l)
	return nil
}

// bringUp takes the steps of a start. What a failed one leaves is cleared by startFailed.
func (s *Service) bringUp(ctx context.Context, c *instance, spec *Spec) (*life, error) {
	var net connected
	var root string
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		net, err = s.plug(gctx, spec)
		return err
	})
	group.Go(func() (err error) {
		root, err = s.mountRootFS(gctx, spec.ID)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	create, err := s.buildCreate(ctx, spec, root, net)
	if err != nil {
		return nil, err
	}
	if err := s.deps.Runtime.Create(ctx, create); err != nil {
		return nil, taskError(err)
	}
	s.connectPending(c)
	pid, err := s.deps.Runtime.Start(ctx, spec.ID)
	if err != nil {
		return nil, taskError(err)
	}
	return s.begin(c, spec, pid, net), nil
}

// begin makes it known that the container runs.
func (s *Service) begin(c *instance, spec *Spec, pid int, net connected) *life {
	l := c.beginLife(s.ctx)
	c.setState(func(st *State) {
		st.Status, st.PID, st.StartedAt = container.StateRunning, pid, time.Now().UTC()
		st.ExitCode, st.Error, st.OOMKilled, st.StoppedManually, st.Started = 0, "", false, false, true
		st.Endpoints, st.Ports, st.SandboxPath = net.endpoints, net.ports, net.sandbox
		st.Health = initialHealth(spec.Config.Healthcheck)
	})
	s.persist(c)
	s.emit(spec, events.ActionStart)
	return l
}

// startFailed clears up and tells why.
func (s *Service) startFailed(c *instance, spec *Spec, cause error) {
	code := startExitCode(cause)
	c.setState(func(st *State) {
		st.Status, st.PID = container.StateExited, 0
		if !st.Started {
			st.Status = container.StateCreated
		}
		st.ExitCode, st.Error = code, cause.Error()
		st.Endpoints, st.Ports, st.SandboxPath = nil, nil, ""
	})
	s.endPending(c)
	s.tearDown(spec)
	s.persist(c)
	if spec.HostConfig.AutoRemove {
		s.removeNow(c, true)
		return
	}
	c.tellEnd(false)
}

// taskError words a failure of the runtime as Docker does, whose clients derive an exit status from the text.
func taskError(err error) error {
	kind := error(errdefs.ErrInternal)
	if startExitCode(err) != exitNotStarted || errdefs.IsInvalidArgument(err) {
		kind = errdefs.ErrInvalidArgument
	}
	return withKind(kind, "failed to create task for container: %w", err)
}

func startExitCode(err error) int {
	text := err.Error()
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("executable file not found", "no such file or directory", "not a directory"):
		return exitNotFound
	case has("permission denied", "exec format error", "is a directory"):
		return exitNotExecutable
	}
	return exitNotStarted
}

// tearDown takes away everything that a running container has on the host. It may be called at any time but while one runs.
func (s *Service) tearDown(spec *Spec) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), tearDownTimeout)
	defer cancel()
	err := errors.Join(
		s.deps.Runtime.Delete(ctx, spec.ID),
		s.deps.Networks.DeleteSandbox(ctx, spec.ID),
		s.unmountExtras(spec.ID),
		s.unmountRootFS(ctx, spec.ID),
	)
	if err != nil {
		s.log.Error("clearing up a container", "id", spec.ID, "error", err)
	}
}

// unmountExtras takes away what was mounted beside the root filesystem for a container: a shared /dev/shm, parts of volumes.
func (s *Service) unmountExtras(id string) error {
	var errs []error
	paths, _ := filepath.Glob(s.rootfs(id) + ".*")
	for _, p := range paths {
		errs = append(errs, detachMount(p), os.Remove(p))
	}
	return errors.Join(errs...)
}

// create is everything that the runtime needs to know.
func (s *Service) buildCreate(ctx context.Context, spec *Spec, root string, net connected) (shim.Create, error) {
	log, err := logConfig(s.cfg, spec.HostConfig.LogConfig, spec, s.logPath(spec.ID))
	if err != nil {
		return shim.Create{}, err
	}
	ociSpec, err := s.buildSpec(ctx, spec, root, net)
	if err != nil {
		return shim.Create{}, err
	}
	return shim.Create{
		ID: spec.ID, Bundle: filepath.Join(s.cfg.ExecRoot, "containers", spec.ID), Spec: ociSpec,
		OpenStdin: spec.Config.OpenStdin, StdinOnce: spec.Config.StdinOnce, Log: log,
	}, nil
}
