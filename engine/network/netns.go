package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs fn on a thread of its own that ends with it: what fn does to the thread, such as entering a namespace, is
// seen by nobody else.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The runtime never ends the process's first thread, which would keep the namespace alive. While this goroutine
			// holds it, another gets another.
			defer runtime.UnlockOSThread()
			done <- onThread(fn)
			return
		}
		done <- fn() // never unlocked: the runtime ends the thread with the goroutine
	}()
	return <-done
}

// inNamespace runs fn on a thread in the network namespace at path. Sockets that fn opens belong to it, and may be used
// from everywhere. fn must not start goroutines that open sockets.
func inNamespace(path string, fn func() error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return onThread(func() error {
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering network namespace %s: %w", path, err)
		}
		return fn()
	})
}

// makeNamespace makes a network namespace, runs fn in it, and binds it to path, so that it stays.
func makeNamespace(path string, fn func() error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o400)
	if err != nil {
		return err
	}
	f.Close()
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		if err := fn(); err != nil {
			return err
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("binding a network namespace to %s: %w", path, err)
		}
		return nil
	})
}

// isNamespace reports whether a namespace is bound to path.
func isNamespace(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// removeNamespace lets go of the namespace at path. The kernel deletes it, with its links, once no process is in it.
func removeNamespace(path string) error {
	for isNamespace(path) { // bound more than once, after a crash
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unbinding network namespace %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
