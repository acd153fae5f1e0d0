package logs

import (
	"sync"
	"time"
)

// queue lets a container go on while its output waits to be kept. What does not fit is lost, as with Docker.
type queue struct {
	most int64
	done chan struct{} // closed when all was written after close

	mu      sync.Mutex // guards what follows
	changed *sync.Cond
	waiting []output
	size    int64
	closed  bool
	err     error // of an earlier write, not told yet
}

type output struct {
	stream string
	data   []byte
	at     time.Time
}

func newQueue(most int64, write func(string, []byte, time.Time) error) *queue {
	q := &queue{most: most, done: make(chan struct{})}
	q.changed = sync.NewCond(&q.mu)
	go q.run(write)
	return q
}

func (q *queue) put(stream string, p []byte, at time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	err := q.err
	q.err = nil
	if q.closed || q.size+int64(len(p)) > q.most {
		return err
	}
	q.waiting = append(q.waiting, output{stream, append([]byte(nil), p...), at})
	q.size += int64(len(p))
	q.changed.Signal()
	return err
}

func (q *queue) run(write func(string, []byte, time.Time) error) {
	defer close(q.done)
	for {
		o, ok := q.take()
		if !ok {
			return
		}
		if err := write(o.stream, o.data, o.at); err != nil {
			q.mu.Lock()
			q.err = err
			q.mu.Unlock()
		}
	}
}

// take waits for something to write; false means that nothing will come.
func (q *queue) take() (output, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 && !q.closed {
		q.changed.Wait()
	}
	if len(q.waiting) == 0 {
		return output{}, false
	}
	o := q.waiting[0]
	q.waiting[0] = output{}
	if q.waiting = q.waiting[1:]; len(q.waiting) == 0 {
		q.waiting = nil
	}
	q.size -= int64(len(o.data))
	return o, true
}

// close waits until everything is written.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.changed.Signal()
	q.mu.Unlock()
	<-q.done
}
