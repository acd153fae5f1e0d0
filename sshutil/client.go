package sshutil

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// Client is one live connection to a machine. Its methods may be called concurrently.
type Client struct {
	endpoint Endpoint
	ssh      *ssh.Client
	done     chan struct{} // closed when the connection has ended

	mu    sync.Mutex // guards cause
	cause error      // why the connection ended
}

func newClient(e Endpoint, c *ssh.Client) *Client {
	cl := &Client{endpoint: e, ssh: c, done: make(chan struct{})}
	go func() {
		err := c.Wait()
		cl.fail(err)
		close(cl.done)
	}()
	go cl.probe(e.keepalive())
	return cl
}

// Endpoint is what was dialled.
func (c *Client) Endpoint() Endpoint { return c.endpoint }

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err tells why the connection ended: ErrLost with the cause; nil while it lives and after Close.
func (c *Client) Err() error {
	select {
	case <-c.done:
	default:
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == errClosed {
		return nil
	}
	return c.lost()
}

// Close ends the connection and all that goes through it.
func (c *Client) Close() error {
	c.fail(errClosed)
	err := c.ssh.Close()
	if isEnd(err) {
		return nil
	}
	return err
}

type closedError struct{}

func (closedError) Error() string { return "it was closed here" }

var errClosed error = closedError{}

// fail records the first reason for the end of the connection.
func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.cause = err
	}
}

// lost builds the error; c.mu is held.
func (c *Client) lost() error {
	if c.cause == nil || isEnd(c.cause) {
		return fmt.Errorf("%s: %w", c.endpoint.Addr(), ErrLost)
	}
	return fmt.Errorf("%s: %w: %v", c.endpoint.Addr(), ErrLost, c.cause)
}

// broken explains an error of an operation: as ErrLost when the connection has ended, else as it is.
func (c *Client) broken(err error) error {
	if err == nil {
		return nil
	}
	if isEnd(err) {
		// The operation may have noticed before the connection's own goroutine.
		select {
		case <-c.done:
		case <-time.After(100 * time.Millisecond):
			return err
		}
	}
	select {
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.lost()
	default:
		return err
	}
}

// probe asks the peer for a sign of life at each interval and closes the connection when there is none for two more: TCP alone
// would wait for hours for a machine that lost its power.
func (c *Client) probe(interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		answered := make(chan error, 1)
		go func() {
			_, _, err := c.ssh.SendRequest("keepalive@openssh.com", true, nil)
			answered <- err
		}()
		select {
		case <-c.done:
			return
		case err := <-answered:
			if err != nil {
				return // the connection has ended
			}
		case <-time.After(2 * interval):
			c.fail(fmt.Errorf("no sign of life for %s", 2*interval))
			c.ssh.Close()
			return
		}
	}
}

// await runs f, which cannot be interrupted, and gives up waiting for it when the context is done. What f yields after that is
// handed to drop.
func await[T any](ctx context.Context, f func() (T, error), drop func(T)) (T, error) {
	type result struct {
		v   T
		err error
	}
	ch := make(chan result, 1)
	go func() {
		v, err := f()
		ch <- result{v, err}
	}()
	select {
	case r := <-ch:
		return r.v, r.err
	case <-ctx.Done():
		go func() {
			if r := <-ch; r.err == nil {
				drop(r.v)
			}
		}()
		var zero T
		return zero, context.Cause(ctx)
	}
}

func (c *Client) session(ctx context.Context) (*ssh.Session, error) {
	s, err := await(ctx, c.ssh.NewSession, func(s *ssh.Session) { s.Close() })
	if err != nil {
		return nil, fmt.Errorf("opening a session: %w", c.broken(err))
	}
	return s, nil
}

// SFTP opens a file transfer session. Close it.
func (c *Client) SFTP(ctx context.Context) (*sftp.Client, error) {
	open := func() (*sftp.Client, error) { return sftp.NewClient(c.ssh, sftp.UseConcurrentWrites(true)) }
	s, err := await(ctx, open, func(s *sftp.Client) { s.Close() })
	if err != nil {
		return nil, fmt.Errorf("%s: opening sftp: %w", c.endpoint.Addr(), c.broken(err))
	}
	return s, nil
}
