//go:build linux

package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/runtime/shim"
)

// endTimeout is how long a supervisor may take to kill its container before it is killed itself.
const endTimeout = 10 * time.Second

// Delete ends whatever is left: processes, cgroup, supervisor, bundle. No error when there is nothing. A supervisor whose
// clients have not got all output yet stays until they have, or leave; nothing of the container depends on it.
func (s *Service) Delete(ctx context.Context, id string) error {
	bundle, err := s.bundle(id)
	if err != nil {
		return err
	}
	if !exists(bundle) {
		return nil
	}
	if err := s.end(ctx, bundle); err != nil {
		return fmt.Errorf("ending container %s: %w", id, err)
	}
	if err := s.clear(ctx, bundle); err != nil {
		return fmt.Errorf("clearing up container %s: %w", id, err)
	}
	return nil
}

// end has the supervisor kill its container, and kills the supervisor if it does not.
func (s *Service) end(ctx context.Context, bundle string) error {
	short, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	l, err := dial(short, bundle)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.Close()
	peer, err := peerOf(l)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer peer.Close()
	_, err = l.ask(short, shim.Request{Op: shim.OpEnd})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case short.Err() != nil:
		return killProcess(peer)
	case errors.Is(err, errGone):
		return nil
	}
	return err
}

// peerOf opens the supervisor at the other end of a connection as a pidfd.
func peerOf(l *link) (*os.File, error) {
	raw, err := l.Conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	controlErr := raw.Control(func(socket uintptr) {
		var peer *unix.Ucred
		if peer, err = unix.GetsockoptUcred(int(socket), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			fd, err = unix.PidfdOpen(int(peer.Pid), unix.PIDFD_NONBLOCK)
		}
	})
	if err := errors.Join(controlErr, err); err != nil {
		return nil, fmt.Errorf("finding the supervisor: %w", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// killProcess kills a process and waits for its end.
func killProcess(pidfd *os.File) error {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := raw.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
	if err := errors.Join(controlErr, err); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing the supervisor: %w", err)
	}
	return raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
}

// clear kills what still runs and removes the cgroup and the bundle.
func (s *Service) clear(ctx context.Context, bundle string) error {
	group, err := s.groupOf(bundle)
	if err != nil {
		return err
	}
	if group != nil {
		if err := group.kill(ctx); err != nil {
			return err
		}
		if err := group.remove(); err != nil {
			return err
		}
	}
	return removeBundle(bundle)
}

// removeBundle removes what is ours by name: somebody might have mounted a root filesystem in there.
func removeBundle(bundle string) error {
	err := os.RemoveAll(filepath.Join(bundle, filepath.Base(bundle))) // libcontainer's state
	for _, name := range []string{shim.SocketFile, shim.ExitFile, shim.LogFile, shim.CreateFile, shim.CgroupFile} {
		if e := os.Remove(filepath.Join(bundle, name)); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	if e := os.Remove(bundle); e != nil && !errors.Is(e, os.ErrNotExist) && !errors.Is(e, unix.ENOTEMPTY) {
		err = errors.Join(err, e)
	}
	return err
}

// killOrphans kills what a dead supervisor has left running.
func (s *Service) killOrphans(ctx context.Context, bundle string) error {
	group, err := s.groupOf(bundle)
	if err != nil || group == nil {
		return err
	}
	return group.kill(ctx)
}
