//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"

	"github.com/getberth/berth/engine/logs"
	"github.com/getberth/berth/engine/runtime/shim"
)

// supervisor holds one container.
type supervisor struct {
	bundle     string
	stdinOnce  bool
	tty        bool
	privatePID bool // the kernel kills the container's processes with the first one
	container  *libcontainer.Container
	first      *process
	log        *logs.Writer

	handlers sync.WaitGroup // connections being served
	exited   chan struct{}  // closed when the exit is on disk
	gone     chan struct{}  // closed when nothing of the container is left

	starting sync.Mutex // held while an exec starts

	mu    sync.Mutex // guards what follows
	state shim.State
	execs map[string]*process
	idle  *time.Timer // runs trim
}

// run waits for something to do, makes the container, serves requests, and returns when the container has ended and its
// clients have got all output.
func run(control *net.UnixConn) error {
	job, err := receiveJob(control)
	if err != nil || job == nil {
		return err
	}
	s, err := create(job.bundle)
	if err != nil {
		_ = shim.WriteMessage(control, shim.Reply{Error: err.Error(), Kind: kindOf(err)})
		return err
	}
	go s.watch()
	s.handlers.Go(func() { s.accept(job.listener) })
	// An engine that is gone by now finds the container by its bundle.
	_ = shim.WriteMessage(control, shim.Reply{State: s.snapshot()})
	control.Close()
	s.trimSoon()
	<-s.gone
	job.listener.Close()
	s.handlers.Wait()
	return nil
}

func create(bundle string) (*supervisor, error) {
	var c shim.Create
	b, err := os.ReadFile(filepath.Join(bundle, shim.CreateFile))
	if err != nil {
		return nil, fmt.Errorf("reading what to run: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("reading what to run: %w", err)
	}
	if c.Spec == nil {
		return nil, invalid("no container was given")
	}
	if err := checkProcess(c.Spec.Process); err != nil {
		return nil, err
	}
	log, err := logs.Open(c.Log)
	if err != nil {
		return nil, err
	}
	s := &supervisor{
		bundle: bundle, stdinOnce: c.StdinOnce, tty: c.TTY(), log: log,
		exited: make(chan struct{}), gone: make(chan struct{}), execs: map[string]*process{},
		state: shim.State{Status: shim.Created},
	}
	if s.container, err = newContainer(bundle, c.ID, c.Spec); err != nil {
		return nil, err
	}
	config := s.container.Config()
	s.privatePID = config.Namespaces.IsPrivate(configs.NEWPID)
	s.first, err = startProcess(s.container, c.Spec.Process, stdioPlan{
		first: true, stdin: c.OpenStdin, stdout: true, stderr: true, log: log,
	})
	if err != nil {
		_ = s.container.Destroy()
		return nil, err
	}
	s.state.PID = s.first.pid
	return s, nil
}

func (s *supervisor) snapshot() *shim.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.state
	if state.Status == shim.Created {
		state.PID = 0
	}
	return &state
}

// watch sees the first process end, and to everything that follows.
func (s *supervisor) watch() {
	code := s.first.wait()
	exit := shim.Exit{Code: code, At: time.Now().UTC(), OOMKilled: oomKilled(s.container)}
	if !s.privatePID {
		killAll(s.container)
	}
	s.first.stdio.drain(false)
	if err := s.log.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "berth-shim:", err)
	}
	s.record(exit)
	if err := destroy(s.container); err != nil { // the engine tries again when it deletes the container
		fmt.Fprintln(os.Stderr, "berth-shim:", err)
	}
	close(s.gone)
}

// record makes the exit durable, then known.
func (s *supervisor) record(exit shim.Exit) {
	s.mu.Lock()
	s.state.Status, s.state.PID, s.state.Exit = shim.Stopped, 0, &exit
	b, err := json.Marshal(s.state)
	s.mu.Unlock()
	if err == nil {
		err = renameio.WriteFile(filepath.Join(s.bundle, shim.ExitFile), b, 0o600, renameio.WithTempDir(s.bundle))
	}
	if err != nil { // a full disk must not keep the engine from knowing
		fmt.Fprintln(os.Stderr, "berth-shim: recording the exit:", err)
	}
	close(s.exited)
	s.first.stdio.finish(nil)
}

func (s *supervisor) accept(l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, say: what is open may end meanwhile
			fmt.Fprintln(os.Stderr, "berth-shim: accepting a connection:", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		s.handlers.Add(1)
		go func() {
			defer s.handlers.Done()
			defer conn.Close()
			s.serve(&session{Conn: conn, in: bufio.NewReaderSize(conn, 4<<10)})
		}()
	}
}

// trimSoon gives memory back once the container has been left alone for a moment.
func (s *supervisor) trimSoon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle == nil {
		s.idle = time.AfterFunc(time.Second, trim)
		return
	}
	s.idle.Reset(time.Second)
}

// trim returns what making a container has taken, several times of what watching it needs.
func trim() {
	debug.SetGCPercent(50)
	debug.FreeOSMemory()
}
