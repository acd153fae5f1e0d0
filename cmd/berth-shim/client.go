//go:build linux

package main

import (
	"net"
	"sync"

	"github.com/getberth/berth/engine/runtime/shim"
)

// maxBuffered is how many bytes a client may lag behind before it holds up the process, as a full pipe would.
const maxBuffered = 1 << 20

// client takes output at its own pace.
type client struct {
	conn net.Conn
	want shim.StreamSet
	done chan struct{} // closed when send has ended

	mu      sync.Mutex // guards what follows
	changed *sync.Cond
	queue   []byte // frames
	roomy   bool   // takes more than maxBuffered
	last    bool   // nothing will be added
	gone    bool   // nothing can be sent
}

func newClient(conn net.Conn, want shim.StreamSet) *client {
	c := &client{conn: conn, want: want, done: make(chan struct{})}
	c.changed = sync.NewCond(&c.mu)
	return c
}

// push queues output. It waits while too much is queued.
func (c *client) push(stream byte, p []byte) {
	if stream == shim.FrameStdout && !c.want.Stdout || stream == shim.FrameStderr && !c.want.Stderr {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) >= maxBuffered && !c.roomy && !c.gone && !c.last {
		c.changed.Wait()
	}
	if c.gone || c.last {
		return
	}
	c.queue = shim.AppendFrame(c.queue, stream, p)
	c.changed.Broadcast()
}

// widen lets the client lag as far as it will, for the rest that an ended process has left in its pipes.
func (c *client) widen() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roomy = true
	c.changed.Broadcast()
}

// finish says that no output will follow. closing is sent at last.
func (c *client) finish(closing []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last {
		c.queue = append(c.queue, closing...)
		c.last = true
	}
	c.changed.Broadcast()
}

// leave says that the client is gone: whoever waits for it goes on.
func (c *client) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	c.queue = nil
	c.changed.Broadcast()
}

// send writes what is queued until the end of the output, then closes the connection.
func (c *client) send() {
	defer close(c.done)
	defer c.conn.Close()
	var sending []byte
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.last && !c.gone {
			c.changed.Wait()
		}
		sending, c.queue = c.queue, reuse(sending)
		ended := c.gone || len(sending) == 0
		c.changed.Broadcast()
		c.mu.Unlock()
		if ended {
			return
		}
		if _, err := c.conn.Write(sending); err != nil {
			c.leave()
			return
		}
	}
}

// reuse keeps a buffer unless it has grown by a burst.
func reuse(b []byte) []byte {
	if cap(b) > 64<<10 {
		return nil
	}
	return b[:0]
}
