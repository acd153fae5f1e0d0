//go:build linux

package container

import (
	"context"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/getberth/berth/engine/runtime/shim"
)

// watch waits for the end of a life, and sees to what comes after it.
func (s *Service) watch(ctx context.Context, c *instance, l *life) {
	exit, err := s.deps.Runtime.Wait(ctx, c.id)
	if ctx.Err() != nil { // the engine ends, the container does not
		return
	}
	if err != nil {
		s.log.Error("waiting for a container", "id", c.id, "error", err)
		exit = shim.Exit{Code: unknownExit, At: time.Now().UTC(), Error: err.Error()}
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return
	}
	defer unlock()
	s.ended(c, l, exit)
}

// watchMemory tells of each time that a container with a limit has run out of memory, whichever of its processes is killed.
func (s *Service) watchMemory(c *instance, spec *Spec, l *life) {
	if spec.HostConfig.Memory <= 0 {
		return
	}
	s.background(func(context.Context) {
		err := s.deps.Runtime.WatchOOM(l.ctx, c.id, func() {
			if l.ctx.Err() == nil {
				l.oom.Store(true)
				s.emit(spec, events.ActionOOM)
			}
		})
		if err != nil && l.ctx.Err() == nil {
			s.log.Warn("watching a container's memory", "id", c.id, "error", err)
		}
	})
}

// ended records an exit, then removes the container, lets it rest, or has it started again. The caller holds its lock.
func (s *Service) ended(c *instance, l *life, exit shim.Exit) {
	spec, before := c.view()
	if exit.At.IsZero() {
		exit.At = time.Now().UTC()
	}
	l.cancel()
	again, delay := s.shouldRestart(c, spec, before, exit)
	if isStatic(spec, before) || again {
		s.freeNetwork(spec)
	}
	state := c.setState(func(st *State) { st.end(exit, again) })
	if again {
		state = c.setState(func(st *State) { st.RestartCount++ })
	}
	if exit.OOMKilled && !l.oom.Load() {
		s.emit(spec, events.ActionOOM)
	}
	s.emitDie(spec, state)
	close(l.ended)
	if spec.HostConfig.AutoRemove && !again && !c.kept() {
		s.removeNow(c, true)
		return
	}
	s.persist(c)
	if !again {
		c.tellEnd(false)
	}
	s.endPending(c)
	s.tearDown(spec)
	if again {
		s.scheduleRestart(c, delay)
	}
}

func (s *Service) emitDie(spec *Spec, state *State) {
	lasted := max(state.FinishedAt.Sub(state.StartedAt), 0)
	s.emit(spec, events.ActionDie, "exitCode", strconv.Itoa(state.ExitCode), "execDuration", strconv.Itoa(int(lasted/time.Second)))
}

func (st *State) end(exit shim.Exit, again bool) {
	st.Status = container.StateExited
	if again {
		st.Status = container.StateRestarting
	}
	st.PID, st.ExitCode, st.OOMKilled, st.FinishedAt, st.Error = 0, exit.Code, exit.OOMKilled, exit.At, exit.Error
	st.Endpoints, st.Ports, st.SandboxPath = nil, nil, ""
	if st.Health != nil {
		h := *st.Health
		h.Status = container.Unhealthy
		st.Health = &h
	}
}

func (s *Service) freeNetwork(spec *Spec) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), tearDownTimeout)
	defer cancel()
	if err := s.deps.Networks.DeleteSandbox(ctx, spec.ID); err != nil {
		s.log.Error("taking down a container's network", "id", spec.ID, "error", err)
	}
}

// Restarts are delayed ever longer while a container ends soon after its start, as Docker's are.
const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = time.Minute
	soundLife    = 10 * time.Second // a life this long makes the next delay the first
)

// shouldRestart applies the restart policy to an exit; delay is how long to wait.
func (s *Service) shouldRestart(c *instance, spec *Spec, before *State, exit shim.Exit) (again bool, delay time.Duration) {
	if before.StoppedManually || s.stopping.Load() || s.ctx.Err() != nil {
		return false, 0
	}
	if !policyWants(spec.HostConfig.RestartPolicy, before.RestartCount, exit.Code) {
		return false, 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.backoff = nextBackoff(c.backoff, exit.At.Sub(before.StartedAt))
	return true, c.backoff
}

func policyWants(p container.RestartPolicy, restarts, code int) bool {
	switch {
	case p.IsAlways() || p.IsUnlessStopped():
		return true
	case p.IsOnFailure():
		return code != 0 && (p.MaximumRetryCount == 0 || restarts < p.MaximumRetryCount)
	}
	return false
}

func nextBackoff(last, lived time.Duration) time.Duration {
	if last == 0 || lived >= soundLife {
		return firstBackoff
	}
	return min(last*2, maxBackoff)
}

// scheduleRestart starts the container again after a while, unless somebody stops, starts or removes it before.
func (s *Service) scheduleRestart(c *instance, delay time.Duration) {
	ctx, cancel := context.WithCancel(s.ctx)
	c.mu.Lock()
	c.retry = cancel
	c.mu.Unlock()
	s.background(func(context.Context) {
		defer cancel()
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		unlock, err := c.lock(ctx)
		if err != nil {
			return
		}
		defer unlock()
		if _, state := c.view(); ctx.Err() == nil && state.Status == container.StateRestarting {
			s.restartNow(c)
		}
	})
}

// restartNow is the end of a wait for a restart. One that fails is not tried again.
func (s *Service) restartNow(c *instance) {
	c.mu.Lock()
	c.retry = nil
	c.mu.Unlock()
	if err := s.start(context.WithoutCancel(s.ctx), c); err != nil {
		s.log.Warn("restarting a container", "id", c.id, "error", err)
	}
}
