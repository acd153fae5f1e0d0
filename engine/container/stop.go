//go:build linux

package container

import (
	"context"
	"strconv"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/sys/signal"
)

// killPatience is how long a container may take to end after SIGKILL before the caller is told.
const killPatience = 30 * time.Second

// Stop asks a container to end, and makes it. The error is errdefs.ErrNotModified when it does not run.
func (s *Service) Stop(ctx context.Context, ref string, o StopOptions) error {
	c, _, state, err := s.find(ref)
	if err != nil {
		return err
	}
	if !state.active() {
		return notModified("container is already stopped")
	}
	return s.halt(ctx, c, o, true)
}

// halt ends a container's process. manual says that a user wants it to stay down.
func (s *Service) halt(ctx context.Context, c *instance, o StopOptions, manual bool) error {
	spec, _ := c.view()
	sig, timeout, err := s.stopTerms(spec, o)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		s.markStopped(c, manual)
		if s.stopRestarting(ctx, c) {
			s.emit(spec, events.ActionStop)
			return nil
		}
		s.markStopped(c, manual) // again: a restart that was under way has taken the mark away
		l := c.currentLife()
		if _, state := c.view(); l == nil || !state.running() {
			return nil
		}
		if err := s.endLife(ctx, c, spec, l, sig, timeout); err != nil {
			return err
		}
		// One that ended by itself before it was marked waits for a restart now.
		if _, state := c.view(); !manual || state.Status != container.StateRestarting {
			s.emit(spec, events.ActionStop)
			return nil
		}
	}
	return ctx.Err()
}

func (s *Service) markStopped(c *instance, manual bool) {
	if _, state := c.view(); !manual || state.StoppedManually {
		return
	}
	c.setState(func(st *State) { st.StoppedManually = true })
	s.persist(c)
}

func (s *Service) endLife(ctx context.Context, c *instance, spec *Spec, l *life, sig syscall.Signal, timeout time.Duration) error {
	if timeout != 0 {
		s.signal(ctx, c, spec, sig)
		if !waitEnd(ctx, l, timeout) && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return s.killHard(ctx, c, spec, l)
}

// stopTerms are the signal and the patience of a stop; a negative timeout has no end.
func (s *Service) stopTerms(spec *Spec, o StopOptions) (syscall.Signal, time.Duration, error) {
	seconds := *s.defaults.Load().StopTimeout
	if spec.Config.StopTimeout != nil {
		seconds = *spec.Config.StopTimeout
	}
	if o.Timeout != nil {
		seconds = *o.Timeout
	}
	name := or(o.Signal, spec.Config.StopSignal)
	if name == "" {
		name = "SIGTERM"
	}
	sig, err := signal.ParseSignal(name)
	if err != nil {
		return 0, 0, invalid("%v", err)
	}
	return sig, time.Duration(seconds) * time.Second, nil
}

// stopRestarting ends the wait for a restart. It reports whether there was one.
func (s *Service) stopRestarting(ctx context.Context, c *instance) bool {
	if _, state := c.view(); state.Status != container.StateRestarting {
		return false
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return false
	}
	defer unlock()
	c.cancelRetry()
	if _, state := c.view(); state.Status != container.StateRestarting {
		return false
	}
	c.setState(func(st *State) { st.Status = container.StateExited })
	s.persist(c)
	c.tellEnd(false)
	return true
}

// waitEnd waits for the end of a life; a negative timeout has no end. It reports whether it came.
func waitEnd(ctx context.Context, l *life, timeout time.Duration) bool {
	var expired <-chan time.Time
	if timeout >= 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-l.ended:
		return true
	case <-expired:
	case <-ctx.Done():
	}
	return false
}

// killHard sends SIGKILL until the life has ended.
func (s *Service) killHard(ctx context.Context, c *instance, spec *Spec, l *life) error {
	select {
	case <-l.ended:
		return nil
	default:
	}
	s.signal(ctx, c, spec, syscall.SIGKILL)
	if !waitEnd(ctx, l, killPatience) {
		return system("cannot stop container: %s: tried to kill container, but did not receive an exit event", c.id)
	}
	return nil
}

// signal sends one signal and tells of it. A process that has ended meanwhile is no error: the end is on its way.
func (s *Service) signal(ctx context.Context, c *instance, spec *Spec, sig syscall.Signal) error {
	err := s.deps.Runtime.Signal(ctx, c.id, int(sig))
	if err != nil && !errdefs.IsNotFound(err) {
		s.log.Warn("sending a signal to a container", "id", c.id, "signal", int(sig), "error", err)
		return err
	}
	s.emit(spec, events.ActionKill, "signal", strconv.Itoa(int(sig)))
	_, state := c.view()
	if state.Status == container.StatePaused && (sig == syscall.SIGKILL || sig == syscall.SIGTERM) {
		s.resume(ctx, c, spec) // a frozen process takes no signal
	}
	return nil
}

func (s *Service) resume(ctx context.Context, c *instance, spec *Spec) {
	if err := s.deps.Runtime.Resume(ctx, c.id); err != nil {
		s.log.Warn("resuming a container to end it", "id", c.id, "error", err)
		return
	}
	c.setState(func(st *State) {
		if st.Status == container.StatePaused {
			st.Status = container.StateRunning
		}
	})
	s.emit(spec, events.ActionUnPause)
}

// Kill sends a signal, SIGKILL when it is empty.
func (s *Service) Kill(ctx context.Context, ref, name string) error {
	sig := syscall.SIGKILL
	if name != "" {
		var err error
		if sig, err = signal.ParseSignal(name); err != nil {
			return invalid("%v", err)
		}
	}
	c, spec, state, err := s.find(ref)
	if err != nil {
		return err
	}
	if state.Status == container.StateRestarting && s.stopRestarting(ctx, c) {
		return nil
	}
	l := c.currentLife()
	if !state.running() || l == nil {
		return conflict("cannot kill container: %s: container %s is not running", ref, c.id)
	}
	if stops(spec, sig) {
		c.setState(func(st *State) { st.StoppedManually = true })
		s.persist(c)
	}
	if err := s.signal(ctx, c, spec, sig); err != nil {
		return system("cannot kill container: %s: %w", ref, err)
	}
	if sig == syscall.SIGKILL && !waitEnd(ctx, l, killPatience) {
		return system("cannot kill container: %s: it did not end", ref)
	}
	return nil
}

// stops says that a signal is meant to end the container, so that its restart policy does not bring it back.
func stops(spec *Spec, sig syscall.Signal) bool {
	own, err := signal.ParseSignal(or(spec.Config.StopSignal, "SIGTERM"))
	return sig == syscall.SIGKILL || err == nil && sig == own
}

// Restart stops a container if it runs, and starts it.
func (s *Service) Restart(ctx context.Context, ref string, o StopOptions) error {
	c, spec, state, err := s.find(ref)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if state.active() {
		kept := c.keepAlive()
		defer kept()
		if err := s.halt(ctx, c, o, true); err != nil {
			return err
		}
	}
	err = s.Start(ctx, c.id)
	if err != nil && !errdefs.IsNotModified(err) {
		return err
	}
	s.emit(spec, events.ActionRestart)
	return nil
}

// Pause freezes a container's processes.
func (s *Service) Pause(ctx context.Context, ref string) error {
	c, spec, state, unlock, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	switch {
	case state.Status == container.StatePaused:
		return conflict("Container %s is already paused", c.id)
	case state.Status == container.StateRestarting:
		return conflict("Container %s is restarting, wait until the container is running", c.id)
	case !state.running():
		return conflict("Container %s is not running", c.id)
	}
	if err := s.deps.Runtime.Pause(ctx, c.id); err != nil {
		return system("cannot pause container %s: %w", c.id, err)
	}
	c.setState(func(st *State) { st.Status = container.StatePaused })
	s.persist(c)
	s.emit(spec, events.ActionPause)
	return nil
}

// Unpause lets them go on.
func (s *Service) Unpause(ctx context.Context, ref string) error {
	c, spec, state, unlock, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	if state.Status != container.StatePaused {
		return conflict("Container %s is not paused", c.id)
	}
	if err := s.deps.Runtime.Resume(ctx, c.id); err != nil {
		return system("cannot unpause container %s: %w", c.id, err)
	}
	c.setState(func(st *State) { st.Status = container.StateRunning })
	s.persist(c)
	s.emit(spec, events.ActionUnPause)
	return nil
}
