package sshutil

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/crypto/ssh"
)

// maxOutput bounds what Output and ReadFile collect, in bytes.
const maxOutput = 64 << 20

// Run runs a command through the user's login shell and waits for its end. Streams may be nil: no input, dropped output. A
// command that fails gives an *ExitError. When the context is done, the command gets SIGTERM, which OpenSSH passes on to
// all but root's, and Run returns without waiting; nothing is written to stdout and stderr after it returned, but a Read of stdin that blocks may go on.
func (c *Client) Run(ctx context.Context, cmd string, stdin io.Reader, stdout, stderr io.Writer) error {
	return c.run(ctx, cmd, stdin, stdout, stderr, func(s *ssh.Session) error { return s.Start(cmd) })
}

// run does the work of Run; start begins the command in a session whose streams are set.
func (c *Client) run(ctx context.Context, cmd string, stdin io.Reader, stdout, stderr io.Writer, start func(*ssh.Session) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	s, err := c.session(ctx)
	if err != nil {
		return err
	}
	tail := &tailWriter{max: 4 << 10}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := &gate{w: stdout, failed: cancel}
	errOut := &gate{w: stderr, failed: cancel, also: tail}
	s.Stdout, s.Stderr = out, errOut
	ended := make(chan error, 1)
	go func() { ended <- wait(s, stdin, start) }()
	select {
	case err = <-ended:
		s.Close()
	case <-ctx.Done():
		out.close()
		errOut.close()
		go func() { // writes may block when the peer is dead
			_ = s.Signal(ssh.SIGTERM)
			s.Close()
		}()
		return fmt.Errorf("%q: %w", firstLine(cmd), context.Cause(ctx))
	}
	if out.err != nil || errOut.err != nil {
		return errors.Join(out.err, errOut.err)
	}
	return c.exitError(cmd, tail.String(), err)
}

// wait starts a session's command, feeds it, and waits for its end and that of its output. The input is copied here and not by
// Session.Wait, so that a reader that blocks does not hold up the end.
func wait(s *ssh.Session, stdin io.Reader, start func(*ssh.Session) error) error {
	var in io.WriteCloser
	if stdin != nil {
		var err error
		if in, err = s.StdinPipe(); err != nil {
			return err
		}
	}
	if err := start(s); err != nil {
		return err
	}
	if in != nil {
		go func() {
			_, _ = io.Copy(in, stdin)
			in.Close()
		}()
	}
	return s.Wait()
}

// exitError turns what a session's end yields into errors of this package.
func (c *Client) exitError(cmd, stderr string, err error) error {
	var exit *ssh.ExitError
	var missing *ssh.ExitMissingError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return &ExitError{Cmd: cmd, Status: exit.ExitStatus(), Signal: exit.Signal(), Stderr: stderr}
	case errors.As(err, &missing):
		if lost := c.broken(io.EOF); errors.Is(lost, ErrLost) {
			return fmt.Errorf("%q: %w", firstLine(cmd), lost)
		}
		return fmt.Errorf("%q: the server ended it without a status", firstLine(cmd))
	default:
		return fmt.Errorf("%q: %w", firstLine(cmd), c.broken(err))
	}
}

// Output runs a command as Run does and returns what it wrote to standard output, at most 64 MB.
func (c *Client) Output(ctx context.Context, cmd string) ([]byte, error) {
	var out bytes.Buffer
	err := c.Run(ctx, cmd, nil, &limitWriter{w: &out, left: maxOutput}, nil)
	return out.Bytes(), err
}

// gate passes writes on until it is closed; a failure of the writer ends the command, which would otherwise wait for ever for
// someone to read.
type gate struct {
	mu     sync.Mutex // guards the rest
	w      io.Writer
	also   io.Writer
	shut   bool
	err    error
	failed func(error)
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return 0, io.ErrClosedPipe
	}
	if g.also != nil {
		_, _ = g.also.Write(p)
	}
	if g.w == nil {
		return len(p), nil
	}
	n, err := g.w.Write(p)
	if err != nil && g.err == nil {
		g.err = err
		g.failed(err)
	}
	return n, err
}

func (g *gate) close() { g.mu.Lock(); g.shut = true; g.mu.Unlock() }

// tailWriter keeps the last max bytes.
type tailWriter struct {
	max int
	buf []byte
}

func (t *tailWriter) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p[max(0, len(p)-t.max):]...)
	if over := len(t.buf) - t.max; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tailWriter) String() string { return string(t.buf) }

// limitWriter refuses more than left bytes.
type limitWriter struct {
	w    io.Writer
	left int
}

func (l *limitWriter) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, errors.New("the command's output is too large")
	}
	l.left -= len(p)
	return l.w.Write(p)
}
