//go:build linux

package main

import (
	"encoding/json"

	"github.com/getberth/berth/engine/runtime/shim"
)

// exec runs one more process in the container. The client gets its output and exit code; when it leaves, the process goes on.
func (s *supervisor) exec(c *session, e *shim.Exec, want shim.StreamSet) {
	defer s.trimSoon()
	p, err := s.startExec(e, want)
	if err != nil {
		_ = c.reply(shim.Reply{}, err)
		return
	}
	to := newClient(c, want)
	p.stdio.add(to)
	if c.reply(shim.Reply{PID: p.pid}, nil) != nil {
		to.leave()
	}
	go to.send()
	go func() {
		readInput(c, want.Stdin, p.stdio, p.stdio.closeStdin)
		p.stdio.remove(to)
		to.leave()
		p.stdio.closeStdin()
	}()
	code := p.wait()
	p.stdio.drain(true)
	p.pidfd.Close()
	s.forgetExec(e.ID)
	ended, _ := json.Marshal(shim.Ended{Code: code})
	p.stdio.finish(shim.AppendFrame(nil, shim.FrameEnded, ended))
	<-to.done
}

func (s *supervisor) forgetExec(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.execs, id)
}

func (s *supervisor) startExec(e *shim.Exec, want shim.StreamSet) (*process, error) {
	if e == nil || e.ID == "" {
		return nil, invalid("an exec needs an id")
	}
	if err := checkProcess(e.Process); err != nil {
		return nil, err
	}
	if err := s.reserveExec(e.ID); err != nil {
		return nil, err
	}
	s.starting.Lock()
	defer s.starting.Unlock()
	p, err := startProcess(s.container, e.Process, stdioPlan{stdin: want.Stdin, stdout: want.Stdout, stderr: want.Stderr})
	if err != nil {
		s.forgetExec(e.ID)
		reapStrays(s.knows)
		if s.snapshot().Status == shim.Stopped {
			return nil, notRunning()
		}
		return nil, err
	}
	s.mu.Lock()
	s.execs[e.ID] = p
	s.mu.Unlock()
	return p, nil
}

// knows says whether a process is the first or an exec's, for which somebody waits.
func (s *supervisor) knows(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pid == s.first.pid {
		return true
	}
	for _, p := range s.execs {
		if p != nil && p.pid == pid {
			return true
		}
	}
	return false
}

// reserveExec makes sure that an exec may start and that no other has its id.
func (s *supervisor) reserveExec(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, exists := s.execs[id]; exists {
		return invalid("exec %s is running already", id)
	}
	switch s.state.Status {
	case shim.Running:
		s.execs[id] = nil
		return nil
	case shim.Paused:
		return invalid("container is paused")
	}
	return notRunning()
}
