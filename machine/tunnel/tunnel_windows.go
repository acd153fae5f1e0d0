package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/Microsoft/go-winio"
	"github.com/gofrs/flock"
	"golang.org/x/sys/windows"
)

// pipe is the name of the tunnel's pipe. Pipes of all users share one space.
func (t Tunnel) pipe() string { return `\\.\pipe\berth-` + hash(t.store + "\x00" + t.name)[:32] }

// URL is the address for DOCKER_HOST.
func (t Tunnel) URL() string { return "npipe:////./pipe/berth-" + hash(t.store + "\x00" + t.name)[:32] }

// Dial connects to the pipe.
func (t Tunnel) Dial(ctx context.Context) (net.Conn, error) {
	return winio.DialPipeContext(ctx, t.pipe())
}

// answers reports whether somebody listens. Whoever listens takes no notice of a client that says nothing.
func (t Tunnel) answers(ctx context.Context) bool {
	conn, err := t.Dial(ctx)
	if err == nil {
		conn.Close()
	}
	return err == nil
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

// detach makes a command survive its starter and the starter's console.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP}
}
