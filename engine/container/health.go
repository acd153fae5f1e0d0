//go:build linux

package container

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/runtime/shim"
)

// Docker's defaults of a health check.
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3
	healthLogKept       = 5    // results
	healthOutput        = 4096 // bytes kept of a check's output
)

// hasCheck says that a container has a health check.
func hasCheck(h *container.HealthConfig) bool {
	return h != nil && len(h.Test) > 0 && h.Test[0] != "NONE"
}

func initialHealth(h *container.HealthConfig) *container.Health {
	if !hasCheck(h) {
		return nil
	}
	return &container.Health{Status: container.Starting, Log: []*container.HealthcheckResult{}}
}

// healthCommand is what a check runs.
func healthCommand(c *container.Config) []string {
	test := c.Healthcheck.Test
	if test[0] == "CMD" {
		return test[1:]
	}
	shell := c.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(append([]string{}, shell...), test[1:]...)
}

func orDuration(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}

// watchHealth checks a container until its life ends.
func (s *Service) watchHealth(c *instance, spec *Spec, l *life) {
	if !hasCheck(spec.Config.Healthcheck) || len(healthCommand(spec.Config)) == 0 {
		return
	}
	s.background(func(context.Context) { s.checkHealth(l.ctx, c, spec) })
}

func (s *Service) checkHealth(ctx context.Context, c *instance, spec *Spec) {
	h := spec.Config.Healthcheck
	_, state := c.view()
	started := state.StartedAt
	timer := time.NewTimer(nextCheck(h, state.Health, started))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if _, state := c.view(); state.Status == container.StateRunning {
			result := s.probe(ctx, c, spec)
			if ctx.Err() != nil {
				return
			}
			s.recordHealth(c, spec, result, result.Start.Sub(started) < h.StartPeriod)
		}
		_, state := c.view()
		timer.Reset(nextCheck(h, state.Health, started))
	}
}

// nextCheck is how long to wait: while a container starts, checks may be more frequent.
func nextCheck(h *container.HealthConfig, now *container.Health, started time.Time) time.Duration {
	interval := orDuration(h.Interval, healthInterval)
	if now == nil || now.Status != container.Starting || h.StartPeriod == 0 || time.Since(started) >= h.StartPeriod {
		return interval
	}
	return min(interval, orDuration(h.StartInterval, healthStartInterval))
}

// limitedBuffer keeps the first bytes of what is written, from one goroutine or two.
type limitedBuffer struct {
	lock chan struct{} // holds the token while nobody writes
	buf  bytes.Buffer
	cut  bool
}

func newLimitedBuffer() *limitedBuffer {
	b := &limitedBuffer{lock: make(chan struct{}, 1)}
	b.lock <- struct{}{}
	return b
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	<-b.lock
	defer func() { b.lock <- struct{}{} }()
	room := healthOutput - b.buf.Len()
	b.cut = b.cut || len(p) > room
	b.buf.Write(p[:min(len(p), room)])
	return len(p), nil
}

func (b *limitedBuffer) String() string {
	<-b.lock
	defer func() { b.lock <- struct{}{} }()
	if b.cut {
		return b.buf.String() + "..."
	}
	return b.buf.String()
}

// Docker counts a check's time from when it is asked for. Here it is from when its process runs: what the host takes to start it says
// nothing of the container. These bound the rest.
const (
	probeStart = 30 * time.Second // until the process runs
	probeEnd   = 5 * time.Second  // until its output is here, once it was killed
)

// probe runs one check. One that takes too long is killed.
func (s *Service) probe(ctx context.Context, c *instance, spec *Spec) *container.HealthcheckResult {
	e := &execution{id: newID(), c: c, req: container.ExecCreateRequest{Cmd: healthCommand(spec.Config), AttachStdout: true, AttachStderr: true}}
	r := &container.HealthcheckResult{Start: time.Now(), ExitCode: -1}
	defer func() { r.End = time.Now() }()
	process, err := s.execProcess(spec, e, ExecStartOptions{})
	if err != nil {
		r.Output = err.Error()
		return r
	}
	timeout := orDuration(spec.Config.Healthcheck.Timeout, healthTimeout)
	out := newLimitedBuffer()
	code, err := s.runProbe(ctx, spec, e, process, out, timeout)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		r.Output = "Health check exceeded timeout (" + timeout.String() + ")"
		if text := out.String(); text != "" {
			r.Output += ": " + text
		}
	case err != nil:
		r.Output = err.Error()
	default:
		r.ExitCode, r.Output = code, out.String()
	}
	return r
}

// runProbe returns context.DeadlineExceeded when the check has taken longer than timeout.
func (s *Service) runProbe(ctx context.Context, spec *Spec, e *execution, p *specs.Process, out *limitedBuffer, timeout time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, probeStart+timeout+probeEnd)
	defer cancel()
	s.emitExec(spec, events.ActionExecCreate, e)
	s.emitExec(spec, events.ActionExecStart, e)
	var code int
	started, done := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		code, err = s.deps.Runtime.Exec(ctx, e.c.id, shim.Exec{ID: e.id, Process: p}, shim.Streams{Stdout: out, Stderr: out}, func(pid int) {
			e.begin(pid)
			close(started)
		})
		done <- err
	}()
	select {
	case <-started:
	case err := <-done:
		return s.probed(spec, e, code, err)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case err := <-done:
		return s.probed(spec, e, code, err)
	case <-timer.C:
	}
	if pid := e.runningPID(); pid > 0 {
		_ = unix.Kill(pid, unix.SIGKILL) // it may have ended by itself just now
	}
	timer.Reset(probeEnd)
	select { // its output comes before its end
	case <-done:
	case <-timer.C:
	}
	return 0, context.DeadlineExceeded
}

// probed tells of a check that has ended by itself.
func (s *Service) probed(spec *Spec, e *execution, code int, err error) (int, error) {
	if err == nil {
		s.emitExec(spec, events.ActionExecDie, e, "exitCode", itoa(code))
	}
	return code, err
}

// recordHealth applies a result. Failures while a container starts do not count.
func (s *Service) recordHealth(c *instance, spec *Spec, r *container.HealthcheckResult, starting bool) {
	var before, after container.HealthStatus
	c.setState(func(st *State) {
		if st.Health == nil || !st.running() {
			return
		}
		before = st.Health.Status
		st.Health = nextHealth(st.Health, r, starting, spec.Config.Healthcheck.Retries)
		after = st.Health.Status
	})
	if before != after {
		s.emit(spec, events.Action(string(events.ActionHealthStatus)+": "+string(after)))
		s.persist(c) // so that the next engine goes on with it
	}
}

func nextHealth(now *container.Health, r *container.HealthcheckResult, starting bool, retries int) *container.Health {
	if retries <= 0 {
		retries = healthRetries
	}
	next := *now
	next.Log = append(append([]*container.HealthcheckResult{}, now.Log...), r)
	if len(next.Log) > healthLogKept {
		next.Log = next.Log[len(next.Log)-healthLogKept:]
	}
	switch {
	case r.ExitCode == 0:
		next.FailingStreak, next.Status = 0, container.Healthy
	case starting && now.Status == container.Starting:
	default:
		next.FailingStreak++
		if next.FailingStreak >= retries {
			next.Status = container.Unhealthy
		}
	}
	return &next
}
