//go:build linux

package container

import (
	"context"
	"errors"
	"io"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/term"

	"github.com/getberth/berth/engine/runtime/shim"
)

// attachment is a client that wants a container's streams, maybe before there are any.
type attachment struct {
	ctx     context.Context
	streams shim.Streams
	done    chan error // gets one result
}

// Attach connects a client to the container's streams until they end, the client leaves or types the detach keys. A container
// that does not run yet is waited for.
func (s *Service) Attach(ctx context.Context, ref string, o AttachOptions, open Opener) error {
	c, spec, state, err := s.find(ref)
	if err != nil {
		return err
	}
	keys, err := detachKeys(o.DetachKeys)
	if err != nil {
		return err
	}
	switch {
	case state.Status == container.StatePaused:
		return conflict("container %s is paused, unpause the container before attach", c.id)
	case state.Status == container.StateRestarting:
		return conflict("container %s is restarting, wait until the container is running", c.id)
	}
	streams, err := open(spec.Config.Tty)
	if err != nil {
		return err
	}
	if o.Logs {
		if err := s.replay(ctx, spec, o, streams); err != nil {
			return err
		}
	}
	if !o.Stream {
		return nil
	}
	s.emit(spec, events.ActionAttach)
	return s.attach(ctx, c, spec, s.chosen(spec, o, streams), keys)
}

// chosen leaves only the streams that the client asked for. Stdin is the container's only if it keeps it open.
func (s *Service) chosen(spec *Spec, o AttachOptions, from Streams) shim.Streams {
	var to shim.Streams
	if o.Stdin && spec.Config.OpenStdin {
		to.Stdin = from.Stdin
	}
	if o.Stdout {
		to.Stdout = from.Stdout
	}
	if o.Stderr && !spec.Config.Tty {
		to.Stderr = from.Stderr
	}
	if spec.Config.Tty && o.Stderr && !o.Stdout { // a terminal has one stream
		to.Stdout = from.Stdout
	}
	return to
}

func (s *Service) attach(ctx context.Context, c *instance, spec *Spec, streams shim.Streams, keys []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	detached := false
	if streams.Stdin != nil && spec.Config.Tty {
		streams.Stdin = withDetach(ctx, streams.Stdin, keys, func() { detached = true; cancel() })
	}
	err := s.attachNowOrLater(ctx, c, streams)
	cancel()
	if detached {
		s.emit(spec, events.ActionDetach)
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// attachNowOrLater joins a running container, or queues for its next start.
func (s *Service) attachNowOrLater(ctx context.Context, c *instance, streams shim.Streams) error {
	c.mu.Lock()
	if c.state.running() {
		c.mu.Unlock()
		return s.deps.Runtime.Attach(ctx, c.id, streams, make(chan struct{}))
	}
	if c.gone {
		c.mu.Unlock()
		return nil
	}
	a := &attachment{ctx: ctx, streams: streams, done: make(chan error, 1)}
	c.pending = append(c.pending, a)
	c.mu.Unlock()
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
		c.unqueue(a)
		return ctx.Err()
	}
}

func (c *instance) unqueue(a *attachment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, other := range c.pending {
		if other == a {
			c.pending = append(c.pending[:i], c.pending[i+1:]...)
			return
		}
	}
}

func (c *instance) takePending() []*attachment {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.pending
	c.pending = nil
	return list
}

// connectPending joins the clients that wait for the start, between the runtime's create and its start: they miss nothing.
func (s *Service) connectPending(c *instance) {
	for _, a := range c.takePending() {
		attached, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			a.done <- s.deps.Runtime.Attach(a.ctx, c.id, a.streams, attached)
		}()
		select {
		case <-attached:
		case <-ended:
		case <-a.ctx.Done():
		}
	}
}

// endPending lets the clients go that wait for a start which does not come.
func (s *Service) endPending(c *instance) {
	for _, a := range c.takePending() {
		a.done <- nil
	}
}

// detachKeys are the keys that end an attach, e.g. "ctrl-p,ctrl-q", which is also what an empty text means.
func detachKeys(text string) ([]byte, error) {
	if text == "" {
		return []byte{16, 17}, nil
	}
	keys, err := term.ToBytes(text)
	if err != nil {
		return nil, invalid("Invalid detach keys (%s) provided", text)
	}
	return keys, nil
}

// detachReader ends a client's input at the detach keys. It then blocks instead of reporting an end, which would close the
// container's stdin, until the attach is over.
type detachReader struct {
	ctx    context.Context
	keys   io.Reader
	detach func()
}

func withDetach(ctx context.Context, r io.Reader, keys []byte, detach func()) io.Reader {
	return &detachReader{ctx: ctx, keys: term.NewEscapeProxy(r, keys), detach: detach}
}

func (d *detachReader) Read(p []byte) (int, error) {
	n, err := d.keys.Read(p)
	var escape term.EscapeError
	if !errors.As(err, &escape) {
		return n, err
	}
	d.detach()
	<-d.ctx.Done()
	return 0, d.ctx.Err()
}

// Resize sets the size of the terminal, in characters.
func (s *Service) Resize(ctx context.Context, ref string, width, height uint16) error {
	c, spec, state, err := s.find(ref)
	if err != nil {
		return err
	}
	if !state.running() {
		return conflict("container %s is not running", c.id)
	}
	if err := s.deps.Runtime.Resize(ctx, c.id, "", width, height); err != nil {
		return err
	}
	s.emit(spec, events.ActionResize, "height", itoa(height), "width", itoa(width))
	return nil
}
