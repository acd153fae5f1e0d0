package qemu

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/windows"

	"github.com/gofrs/flock"
)

// life is the right to run a machine's QEMU: a lock while it is being started, and the recorded process from then on.
type life struct{ lock *flock.Flock }

// takeLife takes the right, or returns errRunning.
func takeLife(dir string) (*life, error) {
	l := flock.New(filepath.Join(dir, lockFile))
	ok, err := l.TryLock()
	if err != nil {
		return nil, err
	}
	if _, runs := readProcess(dir); !ok || runs {
		l.Unlock()
		return nil, errRunning
	}
	return &life{l}, nil
}

// pass does nothing: a lock does not go over to another process here.
func (l *life) pass(*exec.Cmd) {}

// release gives the right up.
func (l *life) release() { l.lock.Unlock() }

// alive tells whether a machine's QEMU runs.
func alive(dir string) bool {
	_, ok := readProcess(dir)
	return ok
}

// awaitDeath returns when the machine's QEMU has ended.
func awaitDeath(dir string) error {
	p, ok := readProcess(dir)
	if !ok {
		return nil
	}
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(p.PID))
	if err != nil {
		return nil
	}
	defer windows.CloseHandle(h)
	_, err = windows.WaitForSingleObject(h, windows.INFINITE)
	return err
}

// startOf returns when a process started. One that has ended but whose handle somebody holds has no start.
func startOf(pid int) (string, error) {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return "", err
	}
	defer windows.CloseHandle(h)
	var code uint32
	const stillActive = 259
	if err := windows.GetExitCodeProcess(h, &code); err != nil {
		return "", err
	}
	if code != stillActive {
		return "", errors.New("it has ended")
	}
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &created, &exited, &kernel, &user); err != nil {
		return "", err
	}
	return fmt.Sprint(created.Nanoseconds()), nil
}
