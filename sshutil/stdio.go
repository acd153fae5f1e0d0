package sshutil

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Stdio runs a command through the user's login shell and returns its standard input and output as one stream. A command that
// fails gives an *ExitError instead of the stream's end. The stream knows no deadlines; Close ends the command.
func (c *Client) Stdio(ctx context.Context, cmd string) (net.Conn, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	conn := &stdioConn{client: c, session: s, cmd: cmd, stderr: &tailWriter{max: 4 << 10}}
	s.Stderr = conn.stderr
	if conn.in, err = s.StdinPipe(); err == nil {
		conn.out, err = s.StdoutPipe()
	}
	if err == nil {
		_, err = await(ctx, func() (struct{}, error) { return struct{}{}, s.Start(cmd) }, func(struct{}) {})
	}
	if err != nil {
		s.Close()
		return nil, c.broken(err)
	}
	return conn, nil
}

// stdioConn is a command's standard input and output.
type stdioConn struct {
	client  *Client
	session *ssh.Session
	cmd     string
	in      io.WriteCloser
	out     io.Reader
	stderr  *tailWriter // complete when the session has ended

	once sync.Once
	end  error // how the command ended; set by once
}

func (c *stdioConn) Read(p []byte) (int, error) {
	n, err := c.out.Read(p)
	if n == 0 && errors.Is(err, io.EOF) {
		c.once.Do(func() { c.end = c.client.exitError(c.cmd, "", c.session.Wait()) })
		var exit *ExitError
		if errors.As(c.end, &exit) {
			exit.Stderr = c.stderr.String()
			return 0, exit
		}
	}
	return n, err
}

func (c *stdioConn) Write(p []byte) (int, error) { return c.in.Write(p) }

// CloseWrite ends the command's standard input.
func (c *stdioConn) CloseWrite() error { return c.in.Close() }

func (c *stdioConn) Close() error {
	err := c.session.Close()
	if isEnd(err) {
		return nil
	}
	return err
}

func (c *stdioConn) LocalAddr() net.Addr              { return c.client.ssh.LocalAddr() }
func (c *stdioConn) RemoteAddr() net.Addr             { return c.client.ssh.RemoteAddr() }
func (c *stdioConn) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (c *stdioConn) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (c *stdioConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
