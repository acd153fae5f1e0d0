package digitalocean

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/digitalocean/godo"
)

// watch is the droplets of one store. One look at them serves all machines that wait for something.
type watch struct {
	mu     sync.Mutex // guards both
	last   *look      // the last one that is over; nil before
	flight *look      // the one that runs, or waits until it may; nil if none does
}

// look is one listing of a store's droplets.
type look struct {
	done     chan struct{} // closed when the rest is set
	began    time.Time
	droplets []godo.Droplet
	err      error
}

// droplets are those of a store, as they were at some moment after the given one.
func (a *account) droplets(ctx context.Context, store string, after time.Time) ([]godo.Droplet, error) {
	a.mu.Lock()
	w := a.stores[store]
	if w == nil {
		w = new(watch)
		a.stores[store] = w
	}
	a.mu.Unlock()
	for {
		l := w.next(ctx, a, store, after)
		select {
		case <-l.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if l.err != nil || !l.began.Before(after) {
			return l.droplets, l.err
		}
	}
}

// next is the last look if that is recent enough, or else the one to wait for.
func (w *watch) next(ctx context.Context, a *account, store string, after time.Time) *look {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last != nil && w.last.err == nil && !w.last.began.Before(after) {
		return w.last
	}
	if w.flight != nil {
		return w.flight
	}
	l := &look{done: make(chan struct{})}
	var wait time.Duration
	if w.last != nil {
		wait = time.Until(w.last.began.Add(a.conf.Poll))
	}
	w.flight = l
	// Whoever asked first may give up; the others still want to know.
	free, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookLimit)
	go func() {
		defer cancel()
		l.run(free, a, store, wait)
		w.mu.Lock()
		w.last, w.flight = l, nil
		w.mu.Unlock()
		close(l.done)
	}()
	return l
}

// lookLimit bounds a look, whose requests may have to be repeated.
const lookLimit = 5 * time.Minute

func (l *look) run(ctx context.Context, a *account, store string, wait time.Duration) {
	if l.err = pause(ctx, max(wait, 0)); l.err != nil {
		return
	}
	l.began = time.Now()
	l.droplets, l.err = pages(ctx, func(ctx context.Context, o *godo.ListOptions) ([]godo.Droplet, *godo.Response, error) {
		return a.api.Droplets.ListByTag(ctx, storeTag(store), o)
	})
}

// own finds the machine's droplets: the one that is recorded, or those with its mark, the oldest first.
func (s *state) own(all []godo.Droplet) []godo.Droplet {
	var l []godo.Droplet
	for _, d := range all {
		if d.ID == s.Droplet || slices.Contains(d.Tags, s.tag()) {
			l = append(l, d)
		}
	}
	slices.SortFunc(l, func(a, b godo.Droplet) int { return a.ID - b.ID })
	return l
}

// current is the machine's droplet, nil if there is none.
func (j *job) current(ctx context.Context, after time.Time) (*godo.Droplet, error) {
	all, err := j.droplets(ctx, j.s.Store, after)
	if err != nil {
		return nil, fmt.Errorf("asking for the droplet of %q: %w", j.h.Name, explain(err))
	}
	own := j.s.own(all)
	for _, d := range own {
		if d.ID == j.s.Droplet || j.s.Droplet == 0 {
			return &d, nil
		}
	}
	if j.s.Droplet == 0 {
		return nil, nil
	}
	// Somebody may have taken its tags off.
	d, _, err := j.api.Droplets.Get(ctx, j.s.Droplet)
	if isGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("asking for droplet %d: %w", j.s.Droplet, explain(err))
	}
	return d, nil
}

// await looks at the droplet, which may be nil, until ok is pleased.
func (j *job) await(ctx context.Context, limit time.Duration, what string, ok func(*godo.Droplet) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it has taken more than %s", limit))
	defer cancel()
	for {
		d, err := j.current(ctx, time.Now())
		if err == nil {
			var done bool
			if done, err = ok(d); done && err == nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("machine %q: waiting until %s: %w", j.h.Name, what, err)
		}
	}
}
