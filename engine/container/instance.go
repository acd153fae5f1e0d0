//go:build linux

package container

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// instance is a container as the engine holds it.
type instance struct {
	id      string
	created time.Time

	ops chan struct{} // holds one token while nobody works on the container

	saving sync.Mutex // held while the state is written; taken before mu
	buried bool       // guarded by saving: the documents are gone

	mu      sync.Mutex // guards what follows
	spec    *Spec      // replaced, never changed
	state   *State     // replaced, never changed
	life    *life      // the process, or the last one; nil before the first
	waiters []*waiter
	pending []*attachment // clients that wait for the next start
	retry   context.CancelFunc
	backoff time.Duration
	execs   map[string]struct{}
	keep    bool // an end on the way to a restart, which removes nothing
	gone    bool
}

// life is one run of the container's first process.
type life struct {
	ended  chan struct{} // closed once the state tells the end
	cancel context.CancelFunc
	ctx    context.Context // ends with the process; health checks live in it
	oom    atomic.Bool     // that it has run out of memory was told
}

func newInstance(spec *Spec, state *State) *instance {
	c := &instance{id: spec.ID, created: spec.Created, spec: spec, state: state, ops: make(chan struct{}, 1), execs: map[string]struct{}{}}
	c.ops <- struct{}{}
	return c
}

// lock waits for the container's other operations. The returned function must be called once.
func (c *instance) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case <-c.ops:
		return func() { c.ops <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// view returns the documents; nobody may change what they hold.
func (c *instance) view() (*Spec, *State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spec, c.state
}

// setState publishes a changed copy of the state and returns it.
func (c *instance) setState(change func(*State)) *State {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := *c.state
	change(&next)
	c.state = &next
	return c.state
}

// setSpec publishes a changed copy of the spec and returns it.
func (c *instance) setSpec(change func(*Spec)) *Spec {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := *c.spec
	change(&next)
	c.spec = &next
	return c.spec
}

func (c *instance) currentLife() *life {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.life
}

// beginLife is called when the process runs.
func (c *instance) beginLife(ctx context.Context) *life {
	l := &life{ended: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life = l
	return l
}

// keepAlive keeps a container that is to be removed at its end through a restart, until the returned function is called.
func (c *instance) keepAlive() (done func()) {
	set := func(keep bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.keep = keep
	}
	set(true)
	return func() { set(false) }
}

func (c *instance) kept() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keep
}

// cancelRetry ends a restart that is waiting for its time. It reports whether there was one.
func (c *instance) cancelRetry() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retry == nil {
		return false
	}
	c.retry()
	c.retry = nil
	return true
}

// find resolves a reference and refuses a container whose removal has begun only where the caller asks for the documents.
func (s *Service) find(ref string) (*instance, *Spec, *State, error) {
	c, err := s.reg.find(ref)
	if err != nil {
		return nil, nil, nil, err
	}
	spec, state := c.view()
	return c, spec, state, nil
}

// locked resolves a reference, takes the container's lock and returns its documents as they are under it.
func (s *Service) locked(ctx context.Context, ref string) (c *instance, spec *Spec, state *State, unlock func(), err error) {
	c, err = s.reg.find(ref)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	unlock, err = c.lock(ctx)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	c.mu.Lock()
	gone := c.gone
	spec, state = c.spec, c.state
	c.mu.Unlock()
	if gone {
		unlock()
		return nil, nil, nil, nil, notFound("No such container: %s", ref)
	}
	return c, spec, state, unlock, nil
}

// persist writes the newest state. Containers that are removed when they end need no state after a reboot.
func (s *Service) persist(c *instance) {
	c.saving.Lock()
	defer c.saving.Unlock()
	if c.buried {
		return
	}
	spec, state := c.view()
	if err := s.store.saveState(c.id, state, !spec.HostConfig.AutoRemove); err != nil {
		s.log.Error("writing a container's state", "id", c.id, "error", err)
	}
}
