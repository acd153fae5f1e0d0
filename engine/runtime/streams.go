//go:build linux

package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/getberth/berth/engine/runtime/shim"
)

// Attach connects a client to the first process and returns when the output has ended, ctx has, or a stream has failed. It may
// be called between Create and Start, and then misses nothing; attached is closed once output can no longer be missed. When
// the container has ended already, that is at once.
//
// A Read of s.Stdin may be under way when Attach returns; it ends when the caller closes what is behind it.
func (s *Service) Attach(ctx context.Context, id string, streams shim.Streams, attached chan<- struct{}) error {
	l, _, err := s.open(ctx, id, shim.Request{Op: shim.OpAttach, Streams: setOf(streams)})
	if err != nil {
		if errdefs.IsConflict(err) { // ended
			close(attached)
			return nil
		}
		return err
	}
	close(attached)
	p := &pump{link: l, streams: streams}
	_, err = p.run(ctx)
	return err
}

// Exec runs a process to its end and returns its exit code; started receives its pid. Cancelling ctx leaves the process
// running, without streams. Streams that are nil are /dev/null for the process.
//
// When the process cannot be started the error reads as runc's, e.g. `exec: "foo": executable file not found in $PATH`.
func (s *Service) Exec(ctx context.Context, id string, e shim.Exec, streams shim.Streams, started func(pid int)) (int, error) {
	set := setOf(streams)
	if e.Process != nil && e.Process.Terminal {
		set.Stdout = true // the terminal has a reader even if nobody looks at it
		if streams.Stdout == nil {
			streams.Stdout = io.Discard
		}
	}
	l, reply, err := s.open(ctx, id, shim.Request{Op: shim.OpExec, Exec: &e, Streams: set})
	if err != nil {
		var k *kindError
		if errors.As(err, &k) {
			k.text = strings.TrimPrefix(k.text, "unable to start container process: ")
		}
		return 0, err
	}
	started(reply.PID)
	p := &pump{link: l, streams: streams, keepOnInputError: true}
	ended, err := p.run(ctx)
	switch {
	case err != nil:
		return 0, err
	case ended == nil:
		return 0, fmt.Errorf("exec in container %s: %w", id, errGone)
	}
	return ended.Code, nil
}

func setOf(s shim.Streams) shim.StreamSet {
	return shim.StreamSet{Stdin: s.Stdin != nil, Stdout: s.Stdout != nil, Stderr: s.Stderr != nil}
}

// pump moves data between a client's streams and a supervisor.
type pump struct {
	*link
	streams          shim.Streams
	keepOnInputError bool // an input that fails ends the input only
}

// run returns when the supervisor has closed the connection, and what it said at last.
func (p *pump) run(ctx context.Context) (*shim.Ended, error) {
	stop := closeWith(ctx, p)
	defer stop()
	defer p.Close()
	if p.streams.Stdin != nil {
		go p.input()
	}
	var ended *shim.Ended
	var buf []byte
	for {
		stream, payload, err := shim.ReadFrame(p.in, buf)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case ended != nil || err != nil && (hungUp(err) || isClosed(err)):
			return ended, nil
		case err != nil:
			return nil, fmt.Errorf("reading output: %w", err)
		}
		buf = payload
		if stream == shim.FrameEnded {
			ended = &shim.Ended{}
			if err := json.Unmarshal(payload, ended); err != nil {
				return nil, fmt.Errorf("reading output: %w", err)
			}
			return ended, nil
		}
		if err := p.output(stream, payload); err != nil {
			return nil, err
		}
	}
}

func (p *pump) output(stream byte, payload []byte) error {
	to := p.streams.Stdout
	if stream == shim.FrameStderr {
		to = p.streams.Stderr
	}
	if to == nil {
		return nil
	}
	_, err := to.Write(payload)
	return err
}

// input sends what the client types, and its end. A client that has gone closes the connection.
func (p *pump) input() {
	data := make([]byte, 16<<10)
	var frame []byte
	for {
		n, err := p.streams.Stdin.Read(data)
		if n > 0 {
			frame = shim.AppendFrame(frame[:0], shim.FrameStdin, data[:n])
			if _, err := p.Write(frame); err != nil {
				return
			}
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF) || p.keepOnInputError:
			_, _ = p.Write(shim.AppendFrame(nil, shim.FrameStdin, nil))
		default:
			p.Close()
		}
		return
	}
}
