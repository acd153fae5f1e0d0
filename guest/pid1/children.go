//go:build linux

package pid1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// children keeps apart the processes that init started, whose exit their own Wait collects, and the orphans it inherited.
type children struct {
	log *slog.Logger

	mu  sync.Mutex // guards own, and is held while a process starts, so that reap never sees one too early
	own map[int]bool

	services sync.WaitGroup
	stopping chan struct{}
	once     sync.Once
}

func (c *children) stopped() chan struct{} {
	c.once.Do(func() { c.stopping = make(chan struct{}) })
	return c.stopping
}

// start starts a command as one of init's own.
func (c *children) start(cmd *exec.Cmd) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	if c.own == nil {
		c.own = map[int]bool{}
	}
	c.own[cmd.Process.Pid] = true
	return nil
}

func (c *children) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	c.mu.Lock()
	delete(c.own, cmd.Process.Pid)
	c.mu.Unlock()
	return err
}

// run runs a command to its end; its output becomes part of the error.
func (c *children) run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := c.start(cmd); err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	if err := c.wait(cmd); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// reap collects orphans, for ever. It peeks before it collects, since init's own children belong to their Wait.
func (c *children) reap() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, unix.SIGCHLD)
	for range died {
		for c.reapOne() {
		}
	}
}

// reapOne collects one orphan and tells whether there may be more. While one of init's own is first in the queue, its Wait is
// about to collect it, and the next SIGCHLD finds those behind it.
func (c *children) reapOne() bool {
	pid, err := peekExited()
	if err != nil || pid == 0 {
		return false
	}
	c.mu.Lock()
	own := c.own[pid]
	c.mu.Unlock()
	if own {
		time.Sleep(time.Millisecond) // there is no event for "collected by another thread"
		return true
	}
	_, err = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	return err == nil
}

// peekExited returns the pid of a child that has ended, without collecting it; 0 when there is none.
func peekExited() (int, error) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		return siginfoPID(&info), nil
	}
}

// service is a program that init keeps running.
type service struct {
	name string
	// wanted, if set, returns when somebody needs the program; it is waited for before each start.
	wanted func() error
	// command makes the process to start; it is called before each start, since what to run may have been replaced.
	command func() (*exec.Cmd, error)
	log     *os.File       // closed when the service is not started again
	end     syscall.Signal // asks for its end
}

// restartDelay and restartMax bound how fast a service that keeps ending is started again.
const (
	restartDelay = 200 * time.Millisecond
	restartMax   = 10 * time.Second
)

// keep starts a service and starts it again whenever it ends, until stop.
func (c *children) keep(s service) {
	stopping := c.stopped()
	c.services.Go(func() {
		defer s.log.Close()
		delay := restartDelay
		for {
			began := time.Now()
			c.runService(s, stopping)
			select {
			case <-stopping:
				return
			default:
			}
			if time.Since(began) > restartMax {
				delay = restartDelay
			}
			select {
			case <-stopping:
				return
			case <-time.After(delay):
			}
			delay = min(2*delay, restartMax)
		}
	})
}

func (c *children) runService(s service, stopping <-chan struct{}) {
	if !s.awaitDemand(c.log, stopping) {
		return
	}
	cmd, err := s.command()
	if err == nil {
		cmd.Stdout, cmd.Stderr = s.log, s.log
		err = c.start(cmd)
	}
	if err != nil {
		c.log.Error("starting", "service", s.name, "error", err)
		return
	}
	done := make(chan error, 1)
	go func() { done <- c.wait(cmd) }()
	select {
	case err := <-done:
		c.log.Warn("ended, starting it again", "service", s.name, "error", err)
	case <-stopping:
		_ = cmd.Process.Signal(s.end)
		select {
		case <-done:
		case <-time.After(serviceGrace):
			_ = cmd.Process.Kill()
			<-done
		}
	}
}

// awaitDemand tells whether the program is to be started now.
func (s service) awaitDemand(log *slog.Logger, stopping <-chan struct{}) bool {
	if s.wanted == nil {
		return true
	}
	came := make(chan error, 1)
	go func() { came <- s.wanted() }() // ends with the machine
	select {
	case err := <-came:
		if err != nil {
			log.Error("waiting until it is needed", "service", s.name, "error", err)
		}
		return err == nil
	case <-stopping:
		return false
	}
}

// serviceGrace is how long a service may take to end: the engine stops containers, each of which may take 10 s or what it asks for.
const serviceGrace = 30 * time.Second

// stop ends all services and waits for them.
func (c *children) stop() {
	close(c.stopped())
	c.services.Wait()
}
