//go:build linux

package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
)

// lockName is the file in the data root that a running engine holds locked.
const lockName = "berthd.lock"

// lockRoot makes the data root this engine's alone.
func lockRoot(root string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(root, lockName))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking the data root %s: %w", root, err)
	}
	if !ok {
		return nil, fmt.Errorf("the data root %s is in use by another berthd", root)
	}
	return lock, nil
}

// writePID says in a file which process the engine is. A file that names another living process is refused.
func writePID(path string) error {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pidfile: %w", err)
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && isEngine(pid) {
		return fmt.Errorf("process with PID %d is still running: pidfile %s names it", pid, path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("pidfile: %w", err)
	}
	if err := renameio.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return fmt.Errorf("pidfile: %w", err)
	}
	return nil
}

// isEngine reports whether a process is another one that runs the same program as this: a number alone may be anybody's by now.
func isEngine(pid int) bool {
	if pid <= 1 || pid == os.Getpid() {
		return false
	}
	own, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return false
	}
	other, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && filepath.Base(strings.TrimSuffix(other, " (deleted)")) == filepath.Base(own)
}
