package logs

import (
	"context"
	"fmt"
	"os"
	"time"
)

// follow emits the files and what is added to them.
func (r *reader) follow(ctx context.Context) error {
	var until <-chan time.Time
	if !r.query.Until.IsZero() {
		timer := time.NewTimer(time.Until(r.query.Until))
		defer timer.Stop()
		until = timer.C
	}
	done, last := r.query.Done, false
	for {
		if err := r.catchUp(ctx); err != nil || last {
			return err
		}
		// Before it ends it looks once more: what was written before is in the files now.
		select {
		case <-r.changed:
		case <-done:
			last = true
		case <-until:
			last = true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// catchUp emits everything that has been written so far.
func (r *reader) catchUp(ctx context.Context) error {
	for {
		for len(r.files) > 1 {
			if err := r.drain(ctx, r.files[0]); err != nil {
				return err
			}
			r.files[0].file.Close()
			r.files = r.files[1:]
		}
		if len(r.files) == 1 {
			if err := r.drain(ctx, r.files[0]); err != nil {
				return err
			}
		}
		more, err := r.rotation(ctx)
		if err != nil || !more {
			return err
		}
	}
}

// rotation looks for files that came after the one being read, which stays the first in r.files until it was read to its end.
func (r *reader) rotation(ctx context.Context) (more bool, err error) {
	info, err := os.Stat(r.cfg.Path)
	if err != nil {
		if os.IsNotExist(err) { // not begun yet, or in the middle of a rotation, which will wake us again
			return false, nil
		}
		return false, fmt.Errorf("following log: %w", err)
	}
	if len(r.files) == 1 && os.SameFile(info, r.files[0].info) {
		if s := r.files[0]; info.Size() < s.offset {
			s.rewind()
			return true, nil
		}
		return false, nil
	}
	var than *source
	if len(r.files) == 1 {
		than = r.files[0]
	}
	files, err := openAll(r.cfg, than)
	if err != nil {
		return false, err
	}
	r.files = append(r.files, files...)
	return len(files) > 0, ctx.Err()
}

// pollEvery is how often a log is looked at where the kernel cannot tell of changes.
const pollEvery = 200 * time.Millisecond
