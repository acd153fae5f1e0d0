//go:build linux

package container

import (
	"context"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/getberth/berth/engine/container/oci"
	"github.com/getberth/berth/engine/container/rootfs"
	"github.com/getberth/berth/engine/runtime/shim"
)

// execution is one docker exec.
type execution struct {
	id   string
	c    *instance
	req  container.ExecCreateRequest
	keys []byte

	mu      sync.Mutex // guards what follows
	started bool
	running bool
	pid     int
	code    *int
}

// execTable holds executions for a while after they have ended, so that they can be inspected.
type execTable struct {
	mu   sync.Mutex // guards byID
	byID map[string]*execution
}

const execKept = 5 * time.Minute

func newExecTable() *execTable { return &execTable{byID: map[string]*execution{}} }

func (t *execTable) put(e *execution) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byID[e.id] = e
}

func (t *execTable) get(id string) (*execution, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byID[id]; e != nil {
		return e, nil
	}
	return nil, notFound("No such exec instance: %s", id)
}

func (t *execTable) drop(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, id)
}

// ExecCreate prepares a command in a running container.
func (s *Service) ExecCreate(ctx context.Context, ref string, req container.ExecCreateRequest) (string, error) {
	c, spec, state, err := s.find(ref)
	if err != nil {
		return "", err
	}
	if len(req.Cmd) == 0 {
		return "", invalid("No exec command specified")
	}
	if err := executable(c, state); err != nil {
		return "", err
	}
	keys, err := detachKeys(req.DetachKeys)
	if err != nil {
		return "", err
	}
	if req.WorkingDir != "" && !path.IsAbs(req.WorkingDir) {
		return "", invalid("cannot exec: the working directory '%s' is invalid, it needs to be an absolute path", req.WorkingDir)
	}
	e := &execution{id: newID(), c: c, req: req, keys: keys}
	s.execs.put(e)
	c.mu.Lock()
	c.execs[e.id] = struct{}{}
	c.mu.Unlock()
	s.emitExec(spec, events.ActionExecCreate, e)
	return e.id, nil
}

func executable(c *instance, state *State) error {
	switch {
	case state.Status == container.StatePaused:
		return conflict("container %s is paused, unpause the container before exec", c.id)
	case state.Status == container.StateRestarting:
		return conflict("container %s is restarting, wait until the container is running", c.id)
	case !state.running():
		return conflict("container %s is not running", c.id)
	}
	return nil
}

func (s *Service) emitExec(spec *Spec, action events.Action, e *execution, extra ...string) {
	if action == events.ActionExecCreate || action == events.ActionExecStart {
		action += events.Action(": " + strings.Join(e.req.Cmd, " "))
	}
	s.emit(spec, action, append(extra, "execID", e.id)...)
}

// ExecStart runs a prepared command; attached, it returns when the command has ended or the client has left.
func (s *Service) ExecStart(ctx context.Context, id string, o ExecStartOptions, open Opener) error {
	e, err := s.execs.get(id)
	if err != nil {
		return err
	}
	keys := e.keys
	if o.DetachKeys != "" {
		if keys, err = detachKeys(o.DetachKeys); err != nil {
			return err
		}
	}
	if err := s.claim(e); err != nil {
		return err
	}
	spec, _ := e.c.view()
	var streams Streams
	if !o.Detach {
		// From here on errors go into the stream, as Docker's do: its client shows no others. How the stream is framed is for
		// this request to say, not for the one that prepared the command.
		if streams, err = open(o.TTY); err != nil {
			e.end(exitNotStarted)
			return err
		}
	}
	process, err := s.execProcess(spec, e, o)
	if err != nil {
		e.end(exitNotExecutable)
		return err
	}
	if o.Detach {
		return s.runDetached(ctx, spec, e, process)
	}
	return s.runAttached(ctx, spec, e, process, streams, keys)
}

// claim lets an execution be started once.
func (s *Service) claim(e *execution) error {
	_, state := e.c.view()
	if err := executable(e.c, state); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.code != nil {
		return conflict("exec command %s has already run", e.id)
	}
	if e.started {
		return conflict("exec command %s is already running", e.id)
	}
	e.started = true
	return nil
}

func (e *execution) begin(pid int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running, e.pid = true, pid
}

func (e *execution) end(code int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running, e.code = false, &code
}

// runDetached returns as soon as the command runs, or is known not to.
func (s *Service) runDetached(ctx context.Context, spec *Spec, e *execution, p *specs.Process) error {
	running := make(chan struct{})
	done := s.launch(spec, e, p, shim.Streams{}, func() { close(running) })
	select {
	case <-running:
		return nil
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// runAttached returns when the command has ended or the client has left; then the command goes on.
func (s *Service) runAttached(ctx context.Context, spec *Spec, e *execution, p *specs.Process, from Streams, keys []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	streams := e.chosen(from)
	detached := make(chan struct{})
	if streams.Stdin != nil && e.req.Tty {
		streams.Stdin = withDetach(ctx, streams.Stdin, keys, func() { close(detached) })
	}
	select {
	case err := <-s.launch(spec, e, p, streams, func() {}):
		return err
	case <-detached:
		s.emitExec(spec, events.ActionExecDetach, e)
	case <-ctx.Done():
	}
	return nil
}

// launch runs the command beside the request, so that its end is seen even if the client leaves. The channel gets one result.
func (s *Service) launch(spec *Spec, e *execution, p *specs.Process, streams shim.Streams, started func()) <-chan error {
	done := make(chan error, 1)
	s.background(func(ctx context.Context) {
		done <- s.runExec(ctx, spec, e, p, forgiving(streams), started)
	})
	return done
}

// forgivingWriter takes output when nobody reads it any more, so that the command does not notice.
type forgivingWriter struct {
	to   io.Writer
	gone bool // used by the one goroutine that writes
}

func (w *forgivingWriter) Write(p []byte) (int, error) {
	if w.gone {
		return len(p), nil
	}
	if _, err := w.to.Write(p); err != nil {
		w.gone = true
	}
	return len(p), nil
}

func forgiving(s shim.Streams) shim.Streams {
	if s.Stdout != nil {
		s.Stdout = &forgivingWriter{to: s.Stdout}
	}
	if s.Stderr != nil {
		s.Stderr = &forgivingWriter{to: s.Stderr}
	}
	return s
}

func (e *execution) chosen(from Streams) shim.Streams {
	var to shim.Streams
	if e.req.AttachStdin {
		to.Stdin = from.Stdin
	}
	if e.req.AttachStdout || e.req.Tty && e.req.AttachStderr {
		to.Stdout = from.Stdout
	}
	if e.req.AttachStderr && !e.req.Tty {
		to.Stderr = from.Stderr
	}
	return to
}

// runExec runs the command to its end, or to the engine's.
func (s *Service) runExec(ctx context.Context, spec *Spec, e *execution, p *specs.Process, streams shim.Streams, started func()) error {
	s.emitExec(spec, events.ActionExecStart, e)
	code, err := s.deps.Runtime.Exec(ctx, e.c.id, shim.Exec{ID: e.id, Process: p}, streams, func(pid int) {
		e.begin(pid)
		started()
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		code = startExitCode(err)
		err = execError(err)
	}
	s.execEnded(spec, e, code)
	return err
}

func (e *execution) isRunning() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running
}

// runningPID is 0 when the command does not run.
func (e *execution) runningPID() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.running {
		return 0
	}
	return e.pid
}

func (s *Service) execEnded(spec *Spec, e *execution, code int) {
	e.end(code)
	s.emitExec(spec, events.ActionExecDie, e, "exitCode", strconv.Itoa(code))
	e.c.mu.Lock()
	delete(e.c.execs, e.id)
	e.c.mu.Unlock()
	time.AfterFunc(execKept, func() { s.execs.drop(e.id) })
}

// execError words a failure so that the client derives the exit status from it.
func execError(err error) error {
	if startExitCode(err) != exitNotStarted {
		return invalid("OCI runtime exec failed: exec failed: unable to start container process: %w", err)
	}
	return system("OCI runtime exec failed: exec failed: %w", err)
}

// forgetExecs drops what was prepared for a container that is gone.
func (s *Service) forgetExecs(c *instance) {
	c.mu.Lock()
	ids := slices.Collect(maps.Keys(c.execs))
	c.execs = map[string]struct{}{}
	c.mu.Unlock()
	for _, id := range ids {
		s.execs.drop(id)
	}
}

// ExecResize sets the terminal's size, in characters.
func (s *Service) ExecResize(ctx context.Context, id string, width, height uint16) error {
	e, err := s.execs.get(id)
	if err != nil {
		return err
	}
	if !e.isRunning() {
		return conflict("exec command %s is not running", id)
	}
	return s.deps.Runtime.Resize(ctx, e.c.id, e.id, width, height)
}

// ExecInspect describes an execution.
func (s *Service) ExecInspect(ctx context.Context, id string) (container.ExecInspectResponse, error) {
	e, err := s.execs.get(id)
	if err != nil {
		return container.ExecInspectResponse{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.req
	return container.ExecInspectResponse{
		ID: e.id, Running: e.running, ExitCode: e.code, ContainerID: e.c.id, Pid: e.pid, CanRemove: e.code != nil,
		OpenStdin: r.AttachStdin, OpenStdout: r.AttachStdout, OpenStderr: r.AttachStderr, DetachKeys: e.keys,
		ProcessConfig: &container.ExecProcessConfig{
			Tty: r.Tty, Entrypoint: r.Cmd[0], Arguments: append([]string{}, r.Cmd[1:]...), Privileged: &r.Privileged, User: r.User,
		},
	}, nil
}

// execProcess is the process of a command: the container's, but for what the request says.
func (s *Service) execProcess(spec *Spec, e *execution, o ExecStartOptions) (*specs.Process, error) {
	_, state := e.c.view()
	root, err := rootfs.OpenProcess(state.PID)
	if err != nil {
		return nil, conflict("container %s is not running", e.c.id)
	}
	defer root.Close()
	who, groups := or(e.req.User, spec.Config.User), spec.HostConfig.GroupAdd
	if e.req.User != "" {
		groups = nil
	}
	user, err := lookUpUser(root, who, groups)
	if err != nil {
		return nil, err
	}
	hostname, err := s.hostnameOf(spec)
	if err != nil {
		return nil, err
	}
	hc := *spec.HostConfig
	hc.SecurityOpt = s.securityOptions(hc.SecurityOpt)
	p, err := oci.ExecProcess(&hc, s.host, s.cfg.Ulimits, e.req.Privileged)
	if err != nil {
		return nil, invalid("%v", err)
	}
	umask := p.User.Umask
	p.User = user
	p.User.Umask = umask
	p.Args, p.Terminal = e.req.Cmd, e.req.Tty
	p.Env = overrideEnv(environment(hostname, e.req.Tty, spec.Config.Env), e.req.Env)
	if p.Cwd = or(e.req.WorkingDir, spec.Config.WorkingDir); p.Cwd == "" {
		p.Cwd = "/"
	}
	p.ConsoleSize = consoleSize(e.req, o)
	return p, nil
}

func consoleSize(req container.ExecCreateRequest, o ExecStartOptions) *specs.Box {
	size := o.ConsoleSize
	if size == [2]uint{} && req.ConsoleSize != nil {
		size = *req.ConsoleSize
	}
	if !req.Tty || size[0] == 0 || size[1] == 0 {
		return nil
	}
	return &specs.Box{Height: size[0], Width: size[1]}
}
