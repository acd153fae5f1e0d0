//go:build linux

package main

import (
	"github.com/getberth/berth/engine/runtime/shim"
)

// attach connects a client to the first process until the output ends or the client leaves.
func (s *supervisor) attach(c *session, want shim.StreamSet) {
	io := s.first.stdio
	to := newClient(c, want)
	registered := io.add(to)
	if c.reply(shim.Reply{}, nil) != nil || !registered {
		io.remove(to)
		to.leave()
		return
	}
	s.handlers.Go(to.send)
	onEnd := func() {
		switch {
		case s.stdinOnce && !s.tty:
			io.closeStdin()
		case io.takesInput(): // Docker, too, then ends the session rather than the input that others may go on with
			io.remove(to)
			to.finish(nil)
		}
	}
	readInput(c, want.Stdin, io, onEnd)
	io.remove(to)
	to.leave()
	if want.Stdin && s.stdinOnce {
		io.closeStdin()
	}
}

// readInput passes frames to a process until the connection ends. onEnd is called at the end of the input.
func readInput(c *session, wanted bool, to *stdio, onEnd func()) {
	var buf []byte
	for {
		stream, payload, err := shim.ReadFrame(c.in, buf)
		if err != nil || stream != shim.FrameStdin {
			return
		}
		buf = payload[:0]
		switch {
		case !wanted:
		case len(payload) == 0:
			onEnd()
		default:
			to.write(payload)
		}
	}
}
