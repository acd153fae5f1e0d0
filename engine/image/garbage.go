//go:build linux

package image

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/log"
)

// collectDelay lets several removals share one collection: it is short against what freed space is waited for, and long
// against the removal of a container.
const collectDelay = 500 * time.Millisecond

// collector removes what nothing refers to any more: at once when asked, soon after a kick.
type collector struct {
	db     *metadata.DB
	kicks  chan struct{}
	quit   chan struct{}
	done   sync.WaitGroup
	mu     sync.Mutex // held while collecting
	closed bool       // guarded by mu
}

func collect(db *metadata.DB) *collector {
	c := &collector{db: db, kicks: make(chan struct{}, 1), quit: make(chan struct{})}
	c.done.Go(c.loop)
	return c
}

func (c *collector) kick() {
	select {
	case c.kicks <- struct{}{}:
	default:
	}
}

func (c *collector) loop() {
	for {
		select {
		case <-c.kicks:
		case <-c.quit:
			return
		}
		t := time.NewTimer(collectDelay)
		select {
		case <-t.C:
		case <-c.quit:
			t.Stop()
			return
		}
		if err := c.run(context.Background()); err != nil {
			log.L.WithError(err).Warn("collecting unused layers")
		}
	}
}

// run collects now. It is not interrupted: half a collection frees half the space.
func (c *collector) run(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	_, err := c.db.GarbageCollect(context.WithoutCancel(ctx))
	return err
}

func (c *collector) stop() {
	close(c.quit)
	c.done.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

const (
	leaseKind     = "berth.lease" // label of leases: what they are for
	leasePull     = "pull"        // outlives a pull that was cut off, so that the next one goes on from there
	leaseWork     = "work"        // means nothing after a crash
	resumableTime = 24 * time.Hour
)

// withLease protects what is made under the returned context until done is called.
func (s *Service) withLease(ctx context.Context) (_ context.Context, done func(), err error) {
	l, err := s.leases.Create(ctx, leases.WithID(s.op("work")), leases.WithLabel(leaseKind, leaseWork))
	if err != nil {
		return nil, nil, err
	}
	return leases.WithLease(ctx, l.ID), func() { s.endLease(ctx, l.ID) }, nil
}

func (s *Service) endLease(ctx context.Context, id string) {
	if err := s.leases.Delete(context.WithoutCancel(ctx), leases.Lease{ID: id}); err != nil {
		log.G(ctx).WithError(err).WithField("lease", id).Warn("ending a lease")
	}
}

// discardLease drops what was made under a lease that no name came to refer to.
func (s *Service) discardLease(ctx context.Context, done func()) {
	done()
	if err := s.garbage.run(ctx); err != nil {
		log.G(ctx).WithError(err).Warn("collecting what a failed operation left")
	}
}

// recover ends the leases of operations that a crash cut off.
func (s *Service) recover(ctx context.Context) error {
	work, err := s.leases.List(ctx, fmt.Sprintf("labels.%q==%s", leaseKind, leaseWork))
	if err != nil {
		return err
	}
	for _, l := range work {
		if err := s.leases.Delete(ctx, l); err != nil {
			return err
		}
	}
	return s.unmountStale()
}
