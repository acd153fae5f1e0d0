//go:build linux

package runtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/getberth/berth/engine/runtime/shim"
)

// errGone says that a supervisor does not answer because it is not there.
var errGone = errors.New("the supervisor is gone")

// link is a connection to a supervisor.
type link struct {
	net.Conn
	in *bufio.Reader
}

func dial(ctx context.Context, bundle string) (*link, error) {
	var conn net.Conn
	err := throughFolder(bundle, func(short string) (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "unix", filepath.Join(short, shim.SocketFile))
		return err
	})
	switch {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return nil, errGone
	case err != nil:
		return nil, fmt.Errorf("connecting to the supervisor: %w", err)
	}
	return &link{conn, bufio.NewReaderSize(conn, 32<<10)}, nil
}

// ask sends a request and waits for the reply, as long as ctx lasts.
func (l *link) ask(ctx context.Context, r shim.Request) (shim.Reply, error) {
	stop := closeWith(ctx, l)
	defer stop()
	var reply shim.Reply
	err := shim.WriteMessage(l, r)
	if err == nil {
		err = shim.ReadMessage(l.in, &reply)
	}
	switch {
	case ctx.Err() != nil:
		return reply, ctx.Err()
	case hungUp(err):
		return reply, errGone
	case err != nil:
		return reply, fmt.Errorf("asking the supervisor: %w", err)
	}
	return reply, nil
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// open sends a request on a new connection; the caller goes on with it.
func (s *Service) open(ctx context.Context, id string, r shim.Request) (*link, shim.Reply, error) {
	bundle, err := s.bundle(id)
	if err != nil {
		return nil, shim.Reply{}, err
	}
	l, err := dial(ctx, bundle)
	if err != nil {
		return nil, shim.Reply{}, s.explain(id, bundle, err)
	}
	reply, err := l.ask(ctx, r)
	if err == nil {
		err = replyError(id, reply)
	}
	if err != nil {
		l.Close()
		return nil, reply, s.explain(id, bundle, err)
	}
	return l, reply, nil
}

// call sends a request that has only a reply.
func (s *Service) call(ctx context.Context, id string, r shim.Request) (shim.Reply, error) {
	l, reply, err := s.open(ctx, id, r)
	if err == nil {
		l.Close()
	}
	return reply, err
}

// explain says what it means that a supervisor is gone.
func (s *Service) explain(id, bundle string, err error) error {
	if !errors.Is(err, errGone) {
		return err
	}
	if !exists(filepath.Join(bundle, shim.CreateFile)) {
		return notFound(id)
	}
	return notRunning(id)
}

func replyError(id string, r shim.Reply) error {
	switch {
	case r.Error == "":
		return nil
	case r.Kind == shim.NotRunning:
		return notRunning(id)
	}
	return &kindError{r.Error, kindOf(r.Kind)}
}

func kindOf(k shim.Kind) error {
	switch k {
	case shim.NotFound:
		return errdefs.ErrNotFound
	case shim.NotRunning:
		return errdefs.ErrConflict
	case shim.Invalid:
		return errdefs.ErrInvalidArgument
	}
	return errdefs.ErrInternal
}

// Signal sends a signal to the first process. It is errdefs.ErrConflict when that has ended.
func (s *Service) Signal(ctx context.Context, id string, signal int) error {
	_, err := s.call(ctx, id, shim.Request{Op: shim.OpSignal, Signal: signal})
	return err
}

// Resize sets the terminal size, in characters, of the first process, or of an exec when execID is not empty.
func (s *Service) Resize(ctx context.Context, id, execID string, width, height uint16) error {
	_, err := s.call(ctx, id, shim.Request{Op: shim.OpResize, ExecID: execID, Width: width, Height: height})
	return err
}

// Pause freezes all processes.
func (s *Service) Pause(ctx context.Context, id string) error {
	_, err := s.call(ctx, id, shim.Request{Op: shim.OpPause})
	return err
}

// Resume undoes Pause.
func (s *Service) Resume(ctx context.Context, id string) error {
	_, err := s.call(ctx, id, shim.Request{Op: shim.OpResume})
	return err
}

// Update changes the limits that r names.
func (s *Service) Update(ctx context.Context, id string, r *specs.LinuxResources) error {
	_, err := s.call(ctx, id, shim.Request{Op: shim.OpUpdate, Resources: r})
	return err
}
