//go:build unix

package tunnel

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/getberth/berth/background"
)

func (t Tunnel) socket() string { return filepath.Join(t.folder(), t.name+".sock") }

// URL is the address for DOCKER_HOST.
func (t Tunnel) URL() string { return "unix://" + t.socket() }

// Dial connects to the socket.
func (t Tunnel) Dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", t.socket())
}

// listener is a socket, and the right to have it: a lock that ends with the process.
type listener struct {
	net.Listener
	path string
	file fs.FileInfo // of the socket
	lock *flock.Flock
}

// ours reports whether the socket is still the one that was made: somebody may have cleaned up.
func (l *listener) ours() bool {
	now, err := os.Lstat(l.path)
	return err == nil && os.SameFile(now, l.file)
}

func (l *listener) Close() error {
	err := l.Listener.Close()
	if l.ours() {
		err = errors.Join(err, os.Remove(l.path))
	}
	return errors.Join(err, os.Remove(l.lock.Path()), l.lock.Close())
}

// lockPause lies between two attempts to find the tunnel served by whoever has the lock.
const lockPause = 20 * time.Millisecond

// listen makes the socket. theirs says that another process serves the tunnel.
func (t Tunnel) listen(ctx context.Context) (ln *listener, theirs bool, err error) {
	for _, dir := range t.private() {
		if err := background.PrivateDir(dir); err != nil {
			return nil, false, err
		}
	}
	lock := flock.New(filepath.Join(t.folder(), t.name+".lock"), flock.SetPermissions(0o600))
	for {
		mine, err := lock.TryLock()
		if err != nil {
			return nil, false, err
		}
		if mine && current(lock) {
			break
		}
		if mine { // it was removed by whoever had it before
			if err := lock.Close(); err != nil {
				return nil, false, err
			}
			continue
		}
		if t.answers(ctx) {
			return nil, true, lock.Close()
		}
		select { // it starts, or ends
		case <-ctx.Done():
			return nil, false, errors.Join(context.Cause(ctx), lock.Close())
		case <-time.After(lockPause):
		}
	}
	ln, err = newListener(t.socket(), lock)
	if err != nil {
		return nil, false, errors.Join(err, lock.Close())
	}
	return ln, false, nil
}

// current reports whether a lock that is held is the one that others would find.
func current(lock *flock.Flock) bool {
	mine, err := lock.Stat()
	if err != nil {
		return false
	}
	found, err := os.Stat(lock.Path())
	return err == nil && os.SameFile(mine, found)
}

func newListener(path string, lock *flock.Flock) (*listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a process that was killed
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	file, err := os.Lstat(path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return &listener{Listener: ln, path: path, file: file, lock: lock}, nil
}

// serverDir is where the process in the background runs: in no folder that somebody may want to unmount.
const serverDir = "/"
