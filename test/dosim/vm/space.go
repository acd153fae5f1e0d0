//go:build linux

package vm

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// space is a network namespace without a name. It lives as long as its thread, whose children QEMUs are: when this process ends,
// however it ends, they are killed and the namespace with all links in it goes.
type space struct {
	jobs chan func()
	done chan struct{}
	file *os.File // the namespace
}

func newSpace() (*space, error) {
	s := &space{jobs: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(s.done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			s.file, err = os.Open("/proc/thread-self/ns/net")
		}
		ready <- err
		if err != nil {
			return
		}
		for f := range s.jobs {
			f()
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("making a network namespace: %w", err)
	}
	return s, nil
}

// do runs f on the namespace's thread.
func (s *space) do(f func() error) error {
	answer := make(chan error, 1)
	s.jobs <- func() { answer <- f() }
	return <-answer
}

func (s *space) close() {
	close(s.jobs)
	<-s.done
	s.file.Close()
}

// sysctl writes a setting of the namespace of the calling thread.
func sysctl(name, value string) error {
	err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the kernel has no such thing, and so no need of it
	}
	return err
}
