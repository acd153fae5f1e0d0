package logs

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watcher tells that something in a folder has changed. Changes are merged: one token stands for all since the last.
type watcher struct {
	changed chan struct{}
	stop    chan struct{}
	ended   chan struct{}
	file    *os.File // of inotify; nil when polling
}

// watch starts to watch a folder. The kernel gives a user 128 inotify instances by default
// (fs.inotify.max_user_instances); beyond that the watcher polls.
func watch(dir string) (*watcher, error) {
	w := &watcher{changed: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{})}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if errors.Is(err, unix.EMFILE) {
		go w.poll()
		return w, nil
	}
	if err != nil {
		return nil, fmt.Errorf("inotify_init1: %w", err)
	}
	w.file = os.NewFile(uintptr(fd), "inotify")
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	switch {
	case errors.Is(err, unix.ENOSPC): // fs.inotify.max_user_watches
		w.file.Close()
		w.file = nil
		go w.poll()
	case err != nil:
		w.file.Close()
		return nil, fmt.Errorf("watching %s: %w", dir, err)
	default:
		go w.read()
	}
	return w, nil
}

func (w *watcher) read() {
	defer close(w.ended)
	var events [4096]byte // their content does not matter; the longest has 272 bytes
	for {
		if _, err := w.file.Read(events[:]); err != nil {
			return // closed
		}
		w.notify()
	}
}

func (w *watcher) notify() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *watcher) poll() {
	defer close(w.ended)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
			w.notify()
		}
	}
}

// close ends the watch and waits for its goroutine.
func (w *watcher) close() {
	close(w.stop)
	if w.file != nil {
		w.file.Close()
	}
	<-w.ended
}
