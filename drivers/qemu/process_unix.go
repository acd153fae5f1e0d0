//go:build unix

package qemu

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// life is the right to run a machine's QEMU. It is a lock that the QEMU inherits and that ends with it, however it ends, so that
// neither a stale process number nor a reboot can be mistaken for a running machine, nor a running one overlooked.
type life struct{ f *os.File }

// takeLife takes the right, or returns errRunning.
func takeLife(dir string) (*life, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flockFile(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errRunning
		}
		return nil, err
	}
	return &life{f}, nil
}

// pass hands the right to a command about to be started.
func (l *life) pass(cmd *exec.Cmd) { cmd.ExtraFiles = append(cmd.ExtraFiles, l.f) }

// release gives the right up; a command that has inherited it keeps it.
func (l *life) release() { l.f.Close() }

// alive tells whether a machine's QEMU runs, or is being started.
func alive(dir string) bool {
	f, err := os.Open(filepath.Join(dir, lockFile))
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(flockFile(f, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// awaitDeath returns when the machine's QEMU has ended.
func awaitDeath(dir string) error {
	f, err := os.Open(filepath.Join(dir, lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return flockFile(f, unix.LOCK_SH)
}

func flockFile(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
