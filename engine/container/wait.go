//go:build linux

package container

import (
	"context"

	"github.com/moby/moby/api/types/container"
)

// waiter is somebody who wants to know when a container ends or goes.
type waiter struct {
	removal bool // only the removal counts
	result  chan WaitResult
}

// Wait returns a channel that gets one result: at once if the condition holds, never once ctx has ended.
func (s *Service) Wait(ctx context.Context, ref string, condition container.WaitCondition) (<-chan WaitResult, error) {
	c, err := s.reg.find(ref)
	if err != nil {
		return nil, err
	}
	switch condition {
	case "", container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
	default:
		return nil, invalid("invalid condition: %q", condition)
	}
	w := &waiter{removal: condition == container.WaitConditionRemoved, result: make(chan WaitResult, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	notRunning := condition == "" || condition == container.WaitConditionNotRunning
	if c.gone || notRunning && !c.state.active() {
		w.result <- waitResult(c.state)
		return w.result, nil
	}
	c.waiters = append(c.waiters, w)
	context.AfterFunc(ctx, func() { c.forget(w) })
	return w.result, nil
}

// waitResult has no error, even for a container that could not be started: who started it has been told, and clients print
// errors of a wait on top.
func waitResult(state *State) WaitResult { return WaitResult{Code: state.ExitCode} }

func (c *instance) forget(w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, other := range c.waiters {
		if other == w {
			c.waiters = append(c.waiters[:i], c.waiters[i+1:]...)
			return
		}
	}
}

// tellEnd answers those who wait for the end, or everybody when the container has been removed.
func (c *instance) tellEnd(removed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var rest []*waiter
	for _, w := range c.waiters {
		if w.removal && !removed {
			rest = append(rest, w)
			continue
		}
		w.result <- waitResult(c.state)
	}
	c.waiters = rest
}
