//go:build linux

package image

import (
	"container/list"
	"context"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"
)

// feed carries the messages of one operation to any number of clients, also to those that come late. Of messages that are
// alike but for their progress, only the newest is kept: a slow client is spared the rest, and the size is bounded.
type feed struct {
	mu      sync.Mutex // guards what follows
	entries *list.List // of *feedEntry, oldest first
	index   map[feedKey]*list.Element
	seq     uint64        // of the newest entry
	changed chan struct{} // closed when there is more
	closed  bool
	err     error
}

type feedKey struct{ id, status string }

type feedEntry struct {
	seq uint64
	msg jsonstream.Message
}

func newFeed() *feed {
	return &feed{entries: list.New(), index: map[feedKey]*list.Element{}, changed: make(chan struct{})}
}

// send never blocks.
func (f *feed) send(m jsonstream.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	key := feedKey{m.ID, m.Status}
	if e, ok := f.index[key]; ok && m.ID != "" {
		f.entries.Remove(e)
	}
	f.index[key] = f.entries.PushBack(&feedEntry{f.seq, m})
	f.wake()
}

// status sends a message about one layer, or about the whole when id is empty.
func (f *feed) status(id, status string) {
	m := jsonstream.Message{ID: id, Status: status}
	if id != "" {
		m.Progress = &jsonstream.Progress{}
	}
	f.send(m)
}

func (f *feed) progress(id, status string, current, total int64) {
	f.send(jsonstream.Message{ID: id, Status: status, Progress: &jsonstream.Progress{Current: current, Total: total}})
}

func (f *feed) close(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed, f.err = true, err
	f.wake()
}

func (f *feed) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// follow hands all messages to one client until the operation ends, and returns its error; or sooner, when ctx ends or the
// client has gone.
func (f *feed) follow(ctx context.Context, to Progress) error {
	var seen uint64
	for {
		msgs, closed, changed := f.since(&seen)
		for _, m := range msgs {
			if err := to(m); err != nil {
				return err
			}
		}
		if closed {
			return f.err // written before closed was
		}
		if len(msgs) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *feed) since(seen *uint64) (msgs []jsonstream.Message, closed bool, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.entries.Back()
	for e != nil && e.Prev() != nil && e.Prev().Value.(*feedEntry).seq > *seen {
		e = e.Prev()
	}
	for ; e != nil; e = e.Next() {
		if entry := e.Value.(*feedEntry); entry.seq > *seen {
			msgs = append(msgs, entry.msg)
		}
	}
	*seen = f.seq
	return msgs, f.closed, f.changed
}

// flights lets clients that want the same at the same time share one operation. It ends when the last of them has gone. Its
// zero value is usable.
type flights struct {
	mu      sync.Mutex // guards what follows
	flying  map[string]*flight
	stopped bool
	running sync.WaitGroup
}

type flight struct {
	feed    *feed
	cancel  context.CancelFunc
	waiters int
	landed  chan struct{}
}

// do joins the operation called key, or begins it. When the last client goes before the end, it waits until run has returned.
func (f *flights) do(ctx context.Context, key string, to Progress, run func(context.Context, *feed) error) error {
	fl, err := f.join(ctx, key, run)
	if err != nil {
		return err
	}
	err = fl.feed.follow(ctx, to)
	if f.leave(key, fl) {
		<-fl.landed
	}
	return err
}

func (f *flights) join(ctx context.Context, key string, run func(context.Context, *feed) error) (*flight, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return nil, context.Canceled
	}
	if fl := f.flying[key]; fl != nil {
		fl.waiters++
		return fl, nil
	}
	if f.flying == nil {
		f.flying = map[string]*flight{}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	fl := &flight{feed: newFeed(), cancel: cancel, waiters: 1, landed: make(chan struct{})}
	f.flying[key] = fl
	f.running.Go(func() {
		defer close(fl.landed)
		defer cancel()
		err := run(ctx, fl.feed)
		f.forget(key, fl)
		fl.feed.close(err)
	})
	return fl, nil
}

// leave reports whether nobody is left.
func (f *flights) leave(key string, fl *flight) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.waiters--; fl.waiters > 0 {
		return false
	}
	if f.flying[key] == fl {
		delete(f.flying, key) // who comes now begins anew
	}
	fl.cancel()
	return true
}

func (f *flights) forget(key string, fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flying[key] == fl {
		delete(f.flying, key)
	}
}

// stop ends all operations and waits for them.
func (f *flights) stop() {
	f.mu.Lock()
	f.stopped = true
	for _, fl := range f.flying {
		fl.cancel()
	}
	f.mu.Unlock()
	f.running.Wait()
}
