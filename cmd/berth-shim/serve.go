//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/runtime/shim"
)

// session is one connection.
type session struct {
	net.Conn
	in *bufio.Reader
}

// replyTimeout bounds how long an engine that does not read may hold a handler up.
const replyTimeout = 10 * time.Second

// kindError is an error whose kind the engine should know.
type kindError struct {
	kind shim.Kind
	text string
}

func (e *kindError) Error() string { return e.text }

func kindOf(err error) shim.Kind {
	var k *kindError
	if errors.As(err, &k) {
		return k.kind
	}
	return shim.Failed
}

func invalid(format string, args ...any) error {
	return &kindError{kind: shim.Invalid, text: fmt.Sprintf(format, args...)}
}

func notRunning() error { return &kindError{kind: shim.NotRunning, text: "container is not running"} }

// reply answers; err wins over r.
func (c *session) reply(r shim.Reply, err error) error {
	if err != nil {
		r = shim.Reply{Error: err.Error(), Kind: kindOf(err)}
	}
	_ = c.SetWriteDeadline(time.Now().Add(replyTimeout))
	defer c.SetWriteDeadline(time.Time{})
	return shim.WriteMessage(c, r)
}

// serve answers the request of one connection.
func (s *supervisor) serve(c *session) {
	var r shim.Request
	if err := shim.ReadMessage(c.in, &r); err != nil {
		if !errors.Is(err, io.EOF) {
			_ = c.reply(shim.Reply{}, invalid("%v", err))
		}
		return
	}
	switch r.Op {
	case shim.OpAttach:
		s.attach(c, r.Streams)
	case shim.OpExec:
		s.exec(c, r.Exec, r.Streams)
	case shim.OpWait:
		s.answerExit(c, s.exited)
	case shim.OpEnd:
		err := s.signal(int(unix.SIGKILL))
		if err != nil && kindOf(err) != shim.NotRunning {
			_ = c.reply(shim.Reply{}, err)
			return
		}
		s.answerExit(c, s.gone)
	default:
		_ = c.reply(s.answer(r))
	}
}

// answer does what is done at once.
func (s *supervisor) answer(r shim.Request) (shim.Reply, error) {
	switch r.Op {
	case shim.OpState:
		return shim.Reply{State: s.snapshot()}, nil
	case shim.OpStart:
		return s.start()
	case shim.OpSignal:
		return shim.Reply{}, s.signal(r.Signal)
	case shim.OpResize:
		return shim.Reply{}, s.resize(r.ExecID, r.Width, r.Height)
	case shim.OpPause:
		return shim.Reply{}, s.freeze(true)
	case shim.OpResume:
		return shim.Reply{}, s.freeze(false)
	case shim.OpUpdate:
		return shim.Reply{}, s.update(r.Resources)
	}
	return shim.Reply{}, invalid("unknown request %q", r.Op)
}

// answerExit tells the exit after the event, unless the client leaves before.
func (s *supervisor) answerExit(c *session, event <-chan struct{}) {
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = io.Copy(io.Discard, c.in)
	}()
	select {
	case <-event:
		_ = c.reply(shim.Reply{State: s.snapshot()}, nil)
	case <-left:
	}
}

func (s *supervisor) start() (shim.Reply, error) {
	s.mu.Lock()
	status := s.state.Status
	s.mu.Unlock()
	if status == shim.Stopped {
		return shim.Reply{}, notRunning()
	}
	if status != shim.Created {
		return shim.Reply{}, invalid("container is already running")
	}
	if err := s.container.Exec(); err != nil {
		return shim.Reply{}, err
	}
	s.mu.Lock()
	pid := s.first.pid
	if s.state.Status == shim.Created {
		s.state.Status = shim.Running
	}
	s.state.StartedAt = time.Now().UTC()
	s.mu.Unlock()
	s.trimSoon()
	return shim.Reply{PID: pid}, nil
}

func (s *supervisor) signal(number int) error {
	sig := unix.Signal(number)
	if number < 1 || number > 64 {
		return invalid("no signal has the number %d", number)
	}
	s.mu.Lock()
	stopped, paused := s.state.Status == shim.Stopped, s.state.Status == shim.Paused
	s.mu.Unlock()
	if stopped {
		return notRunning()
	}
	if sig == unix.SIGKILL && !s.privatePID {
		killAll(s.container)
	}
	err := s.first.signal(sig)
	if errors.Is(err, unix.ESRCH) {
		return notRunning()
	}
	if err == nil && sig == unix.SIGKILL && paused {
		// In cgroup v1 the frozen die only when thawed.
		if err := s.container.Resume(); err != nil {
			fmt.Fprintln(os.Stderr, "berth-shim: thawing to kill:", err)
		}
	}
	return err
}

func (s *supervisor) freeze(frozen bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, to, act := shim.Running, shim.Paused, s.container.Pause
	if !frozen {
		from, to, act = shim.Paused, shim.Running, s.container.Resume
	}
	switch s.state.Status {
	case from:
	case to:
		if frozen {
			return invalid("container is already paused")
		}
		return invalid("container is not paused")
	default:
		return notRunning()
	}
	if err := act(); err != nil {
		return err
	}
	s.state.Status = to
	return nil
}

func (s *supervisor) resize(execID string, width, height uint16) error {
	p := s.first
	if execID != "" {
		s.mu.Lock()
		p = s.execs[execID]
		s.mu.Unlock()
		if p == nil {
			return &kindError{kind: shim.NotFound, text: "no such exec: " + execID}
		}
	}
	return p.stdio.resize(width, height)
}
