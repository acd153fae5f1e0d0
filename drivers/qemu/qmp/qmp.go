// Package qmp speaks the QEMU Machine Protocol: JSON lines with commands, their answers and events.
package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// maxLine bounds a message of QEMU, in bytes; the longest that we ask for is under 1 KiB.
const maxLine = 1 << 20

// Client is one monitor's connection. QEMU serves one at a time and lets others wait, so keep it short.
type Client struct {
	conn net.Conn

	mu      sync.Mutex // one command at a time
	answers chan message
	done    chan struct{}
	err     error // why done is closed; read after it
}

type message struct {
	Greeting json.RawMessage `json:"QMP"`
	Event    string          `json:"event"`
	Return   json.RawMessage `json:"return"`
	Error    *Error          `json:"error"`
}

// Error is QEMU's answer to a command that it could not carry out.
type Error struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *Error) Error() string { return e.Desc }

// ErrGone is the error of a command cut off by the end of QEMU.
var ErrGone = errors.New("QEMU has ended")

// Dial connects to a monitor's unix socket.
func Dial(ctx context.Context, path string) (*Client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return New(ctx, conn)
}

// New greets the monitor at the other end of conn, which it owns from then on.
func New(ctx context.Context, conn net.Conn) (*Client, error) {
	c := &Client{conn: conn, answers: make(chan message), done: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 4096), maxLine)
	var m message
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &m) != nil || m.Greeting == nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("waiting for QEMU's monitor: %w", ctx.Err())
		}
		return nil, errors.New("QEMU's monitor does not greet")
	}
	go c.read(lines)
	if err := c.Run(ctx, "qmp_capabilities", nil, nil); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) read(lines *bufio.Scanner) {
	defer close(c.done)
	c.err = ErrGone
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			c.err = fmt.Errorf("QEMU's monitor: %w", err)
			c.conn.Close()
			return
		}
		if m.Return == nil && m.Error == nil {
			continue // an event; the end of the connection is the only one that we wait for
		}
		select {
		case c.answers <- m:
		case <-time.After(time.Second): // nobody asked, or no longer
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, net.ErrClosed) {
		c.err = fmt.Errorf("%w: %v", ErrGone, err)
	}
}

// Run executes a command; args and result may be nil. A command whose context ends takes the connection with it, because its
// answer could be taken for that of the next.
func (c *Client) Run(ctx context.Context, command string, args, result any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, args})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()
	if _, err := c.conn.Write(append(b, '\n')); err != nil {
		return c.broken(ctx, command, err)
	}
	select {
	case m := <-c.answers:
		if m.Error != nil {
			return fmt.Errorf("QEMU's %s: %w", command, m.Error)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Return, result)
	case <-c.done:
		return c.broken(ctx, command, c.err)
	}
}

func (c *Client) broken(ctx context.Context, command string, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("QEMU's %s: %w", command, err)
}

// Done is closed when the connection has ended; QEMU keeps it until it exits.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Status is the run state of QEMU: "running", "paused", "prelaunch", "shutdown", "guest-panicked" and others.
func (c *Client) Status(ctx context.Context) (string, error) {
	var s struct {
		Status string `json:"status"`
	}
	err := c.Run(ctx, "query-status", nil, &s)
	return s.Status, err
}
