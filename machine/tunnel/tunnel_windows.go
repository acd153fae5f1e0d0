package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/Microsoft/go-winio"
	"github.com/gofrs/flock"
	"golang.org/x/sys/windows"
)

// pipeName is the last part of the name of the tunnel's pipe. Pipes of all users share one space.
func (t Tunnel) pipeName() string { return "berth-" + hash(t.store + "\x00" + t.name)[:32] }

func (t Tunnel) pipe() string { return `\\.\pipe\` + t.pipeName() }

// URL is the address for DOCKER_HOST.
func (t Tunnel) URL() string { return "npipe:////./pipe/" + t.pipeName() }

// Dial connects to the pipe.
func (t Tunnel) Dial(ctx context.Context) (net.Conn, error) {
	return winio.DialPipeContext(ctx, t.pipe())
}

// listener is a pipe, and the right to have it: a lock that ends with the process.
type listener struct {
	net.Listener
	lock *flock.Flock
}

// ours is always true: a pipe ends with its listener.
func (l *listener) ours() bool { return true }

func (l *listener) Close() error { return errors.Join(l.Listener.Close(), l.lock.Close()) }

// listen makes the pipe. theirs says that another process serves the tunnel.
func (t Tunnel) listen(context.Context) (ln *listener, theirs bool, err error) {
	if err := os.MkdirAll(t.folder(), 0o700); err != nil {
		return nil, false, fmt.Errorf("the folder for locks: %w", err)
	}
	lock := flock.New(filepath.Join(t.folder(), t.name+".lock"))
	mine, err := lock.TryLock()
	if err != nil || !mine {
		return nil, !mine, errors.Join(err, lock.Close())
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, false, errors.Join(err, lock.Close())
	}
	pipe, err := winio.ListenPipe(t.pipe(), &winio.PipeConfig{
		SecurityDescriptor: "D:P(A;;GA;;;" + user.User.Sid.String() + ")", // this user, and nobody else
		MessageMode:        true,                                          // with which a side can be closed
		InputBufferSize:    64 << 10, OutputBufferSize: 64 << 10,
	})
	if err != nil {
		return nil, false, errors.Join(err, lock.Close())
	}
	return &listener{Listener: pipe, lock: lock}, false, nil
}

// serverDir is where the process in the background runs: where its starter does.
const serverDir = ""
