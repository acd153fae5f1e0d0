//go:build linux

package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/cgroups/fscommon"
	"golang.org/x/sys/unix"
)

// WatchOOM calls told each time that a running container has run out of memory, until ctx ends or the container has.
func (s *Service) WatchOOM(ctx context.Context, id string, told func()) error {
	g, err := s.groupOfRunning(id)
	if err != nil {
		return err
	}
	w := &oomWatch{v2: g.v2, dir: g.manager.Path("memory")}
	if g.v2 {
		w.dir = g.unified
	}
	if w.dir == "" {
		return nil // the kernel does not tell
	}
	if w.v2 {
		err = w.openV2()
	} else {
		err = w.openV1()
	}
	if err != nil {
		return fmt.Errorf("watching the memory of container %s: %w", id, err)
	}
	defer w.file.Close()
	defer context.AfterFunc(ctx, func() { _ = w.file.Close() })()
	w.run(told)
	return nil
}

// oomWatch is a file that can be read when a cgroup has run out of memory, and when it is removed.
type oomWatch struct {
	v2    bool
	dir   string
	file  *os.File
	kills uint64 // with v2, those that were told
}

// openV1 asks for an eventfd to be written (memory cgroup, section "OOM Control").
func (w *oomWatch) openV1() error {
	control, err := os.Open(filepath.Join(w.dir, "memory.oom_control"))
	if err != nil {
		return err
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	w.file = os.NewFile(uintptr(fd), "eventfd")
	err = os.WriteFile(filepath.Join(w.dir, "cgroup.event_control"), fmt.Appendf(nil, "%d %d", fd, control.Fd()), 0)
	if err != nil {
		w.file.Close()
	}
	return err
}

// openV2 watches a file that changes with its counters.
func (w *oomWatch) openV2() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	w.file = os.NewFile(uintptr(fd), "inotify")
	if _, err = unix.InotifyAddWatch(fd, filepath.Join(w.dir, "memory.events"), unix.IN_MODIFY); err == nil {
		w.kills, err = w.count()
	}
	if err != nil {
		w.file.Close()
	}
	return err
}

func (w *oomWatch) count() (uint64, error) {
	return fscommon.GetValueByKey(w.dir, "memory.events", "oom_kill")
}

func (w *oomWatch) run(told func()) {
	var buf [4096]byte
	for {
		if _, err := w.file.Read(buf[:]); err != nil {
			return // closed
		}
		if !w.v2 {
			if _, err := os.Stat(filepath.Join(w.dir, "memory.oom_control")); err != nil {
				return // it was the end of the cgroup
			}
			told()
			continue
		}
		n, err := w.count()
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return
		}
		if n > w.kills {
			w.kills = n
			told()
		}
	}
}
