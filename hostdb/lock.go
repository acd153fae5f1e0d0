package hostdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// lockPoll is how often a lock that somebody holds is tried again: no system tells when a file lock is released to a waiter
// that must also be able to give up.
const lockPoll = 50 * time.Millisecond

// Holder is who has a lock.
type Holder struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

// String is "berth create (pid 123)".
func (h Holder) String() string {
	if h.PID == 0 {
		return "another process"
	}
	return fmt.Sprintf("%s (pid %d)", h.Command, h.PID)
}

// Lock is the right to change one machine, or what all machines share. It ends with Unlock, and with the process.
type Lock struct {
	store  *Store
	name   string // of the machine; empty for the store's lock
	path   string
	file   *flock.Flock
	unlock sync.Once
}

// lock waits for the lock called name below locks/; what says in words what it is about.
func (s *Store) lock(ctx context.Context, name, what string) (*Lock, error) {
	path := filepath.Join(s.dir, "locks", name+".lock")
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return nil, fmt.Errorf("locking %s: %w", what, err)
	}
	l := &Lock{store: s, path: path}
	told := false
	for {
		ok, err := l.try()
		if err != nil {
			return nil, fmt.Errorf("locking %s: %w", what, err)
		}
		if ok {
			l.writeHolder()
			return l, nil
		}
		if !told && s.OnWait != nil {
			s.OnWait(what, l.readHolder())
		}
		told = true
		if err := pause(ctx, lockPoll); err != nil {
			return nil, fmt.Errorf("waiting for the lock on %s, held by %s: %w", what, l.readHolder(), err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// try takes the lock if it is free. A file that was unlinked by the holder before us guards nothing and does not count.
func (l *Lock) try() (bool, error) {
	f := flock.New(l.path, flock.SetPermissions(fileMode))
	ok, err := f.TryLock()
	if err != nil || !ok {
		return false, errors.Join(err, f.Close())
	}
	mine, err := f.Stat()
	if err == nil {
		var current fs.FileInfo
		current, err = os.Stat(l.path)
		if err == nil && os.SameFile(mine, current) {
			l.file = f
			return true, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return false, errors.Join(err, f.Close())
}

// The holder is written beside the lock: on Windows nobody else can read a locked file. It is only shown to people, so that
// failing to write it is no reason to fail.
func (l *Lock) holderPath() string { return strings.TrimSuffix(l.path, ".lock") + ".holder" }

func (l *Lock) writeHolder() {
	h := Holder{PID: os.Getpid(), Command: l.store.Command, Since: l.store.now().UTC()}
	if data, err := json.Marshal(h); err == nil {
		_ = os.WriteFile(l.holderPath(), data, fileMode)
	}
}

func (l *Lock) readHolder() Holder {
	var h Holder
	if data, err := readRecord(l.holderPath()); err != nil || json.Unmarshal(data, &h) != nil {
		return Holder{}
	}
	return h
}

// Unlock gives the lock up. Calling it again does nothing.
func (l *Lock) Unlock() {
	l.unlock.Do(func() {
		_ = os.Remove(l.holderPath())
		_ = l.file.Close()
	})
}

// unlockAndForget also removes the lock's file; those who wait notice, see try.
func (l *Lock) unlockAndForget() {
	l.unlock.Do(func() {
		_ = os.Remove(l.holderPath())
		if runtime.GOOS == "windows" { // which keeps open files
			_ = l.file.Close()
			_ = os.Remove(l.path)
			return
		}
		_ = os.Remove(l.path)
		_ = l.file.Close()
	})
}
