//go:build linux

package runtime

import (
	"context"
	"errors"
	"fmt"
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
	_, err = l.ask(short, shim.Request{Op: shim.OpEnd})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case short.Err() != nil:
		return killPeer(l)
	case errors.Is(err, errGone):
		return nil
	}
	return err
}

// killPeer kills the process at the other end of a connection.
func killPeer(l *link) error {
	conn, ok := l.Conn.(interface{ File() (*os.File, error) })
	if !ok {
		return errors.New("not a socket")
	}
	f, err := conn.File()
	if err != nil {
		return fmt.Errorf("killing the supervisor: %w", err)
	}
	defer f.Close()
	peer, err := unix.GetsockoptUcred(int(f.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err == nil && peer.Pid > 0 {
		err = unix.Kill(int(peer.Pid), unix.SIGKILL)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing the supervisor: %w", err)
	}
	return nil
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
