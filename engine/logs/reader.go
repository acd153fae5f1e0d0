package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// ErrUnreadable says that the log driver keeps nothing that could be read.
var ErrUnreadable = errors.New("configured logging driver does not support reading")

// Line is one record of a log.
type Line struct {
	Time   time.Time
	Stream string // Stdout or Stderr
	Text   []byte // with its newline; without one, the line goes on in the stream's next record. Valid during the call only.
	Attrs  map[string]string
}

// Query selects lines. Use Tail -1 for all.
type Query struct {
	Tail         int // last lines only, both streams counted, before Since is applied; negative means all
	Since, Until time.Time
	Follow       bool
	// Done, when closed, says that no more will be written: Follow then ends once everything was read.
	Done <-chan struct{}
}

// Read calls emit for each line that q selects, oldest first, across rotated files. Records that are torn or broken are
// skipped. With Follow it stays until Done, Until, the end of ctx (whose error it returns) or an error of emit.
func Read(ctx context.Context, c Config, q Query, emit func(Line) error) error {
	if !c.kept() {
		return ErrUnreadable
	}
	r := &reader{cfg: c, query: q, emit: emit}
	defer r.close()
	if q.Follow {
		w, err := watch(filepath.Dir(c.Path))
		if err != nil {
			return fmt.Errorf("following log: %w", err)
		}
		defer w.close()
		r.changed = w.changed
	}
	err := r.run(ctx)
	if errors.Is(err, errPast) {
		return nil
	}
	return err
}

// errPast ends a read at the first line after Query.Until.
var errPast = errors.New("past the end of the query")

type reader struct {
	cfg     Config
	query   Query
	emit    func(Line) error
	changed <-chan struct{}
	files   []*source // oldest first
}

func (r *reader) close() {
	for _, s := range r.files {
		s.file.Close()
	}
}

func (r *reader) run(ctx context.Context) error {
	files, err := openAll(r.cfg, nil)
	if err != nil {
		return err
	}
	r.files = files
	if err := r.seekTail(); err != nil {
		return err
	}
	if r.query.Follow {
		return r.follow(ctx)
	}
	for _, s := range r.files {
		s.limit = s.size // what is written meanwhile is not chased
		if err := r.drain(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// openAll opens the files of the log that are newer than one, or all when it is nil or gone. Going from the newest to the oldest, in the direction that rotation moves them,
// none is missed and those met twice are dropped.
func openAll(c Config, than *source) ([]*source, error) {
	var files []*source
	for i := range max(c.MaxFile, 1) {
		s, err := openOne(rotated(c.Path, i))
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			for _, s := range files {
				s.file.Close()
			}
			return nil, fmt.Errorf("reading log: %w", err)
		case than != nil && s.same(than):
			s.file.Close()
			return files, nil
		case len(files) > 0 && files[0].same(s):
			s.file.Close()
		default:
			files = append([]*source{s}, files...)
		}
	}
	return files, nil
}

// openOne opens a file, or what it was compressed to.
func openOne(path string) (*source, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return openCompressed(path + gzSuffix)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &source{file: f, size: info.Size(), info: info}, nil
}

// seekTail drops or forwards the files so that Query.Tail lines are left.
func (r *reader) seekTail() error {
	left := r.query.Tail
	if left < 0 {
		return nil
	}
	for i := len(r.files) - 1; i >= 0; i-- {
		s := r.files[i]
		found, offset, err := lastLines(s.file, s.size, left)
		if err != nil {
			return fmt.Errorf("reading log: %w", err)
		}
		s.offset = offset
		if left -= found; left <= 0 {
			for _, old := range r.files[:i] {
				old.file.Close()
			}
			r.files = r.files[i:]
			return nil
		}
	}
	return nil
}

// drain emits what there is of one file.
func (r *reader) drain(ctx context.Context, s *source) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		raw, err := s.next()
		if err != nil {
			return fmt.Errorf("reading log: %w", err)
		}
		if raw == nil {
			return nil
		}
		line, ok := parse(raw)
		if !ok || line.Time.Before(r.query.Since) {
			continue
		}
		if !r.query.Until.IsZero() && line.Time.After(r.query.Until) {
			return errPast
		}
		if err := r.emit(line); err != nil {
			return err
		}
	}
}

// parse decodes a record.
func parse(raw []byte) (Line, bool) {
	var rec struct {
		Log    string            `json:"log"`
		Stream string            `json:"stream"`
		Attrs  map[string]string `json:"attrs"`
		Time   time.Time         `json:"time"`
	}
	if err := json.Unmarshal(raw, &rec); err != nil || (rec.Stream != Stdout && rec.Stream != Stderr) {
		return Line{}, false
	}
	return Line{Time: rec.Time, Stream: rec.Stream, Text: []byte(rec.Log), Attrs: rec.Attrs}, true
}
