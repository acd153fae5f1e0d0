package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// The streams that a line may come from.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// maxText is where Docker cuts a line without end: longer ones are kept as several records, of which only the last ends
// in a newline.
const maxText = 16 << 10

// Writer appends a container's output to its log file. Its methods may be called by several goroutines.
type Writer struct {
	cfg   Config
	attrs []byte // the attrs member of every record, ready to be copied

	queue *queue // nil when writers wait

	mu          sync.Mutex // guards what follows
	forward     forwarder  // nil when lines go nowhere else
	closing     bool
	compressing chan struct{} // closed when the last rotated file is compressed; nil when there was none
	file        *os.File      // nil when nothing is kept
	size        int64
	torn        bool // the file ends in the middle of a line
	batch       []byte
	pending     map[string]*unfinished
}

// unfinished is the part of a line that has no newline yet.
type unfinished struct {
	text  []byte
	since time.Time // of the line's first byte
}

// Open continues the log at c.Path, or begins it.
func Open(c Config) (*Writer, error) {
	w := &Writer{cfg: c, pending: map[string]*unfinished{Stdout: {}, Stderr: {}}}
	if c.Forward != nil {
		forward, err := dial(*c.Forward)
		if err != nil {
			return nil, fmt.Errorf("failed to initialize logging driver: %w", err)
		}
		w.forward = forward
	}
	if err := w.begin(); err != nil {
		w.Close()
		return nil, err
	}
	if c.Buffer > 0 {
		w.queue = newQueue(c.Buffer, w.write)
	}
	return w, nil
}

// begin opens what is to be kept.
func (w *Writer) begin() error {
	c := w.cfg
	if !c.kept() {
		return nil
	}
	if len(c.Attrs) > 0 {
		attrs, err := json.Marshal(c.Attrs)
		if err != nil {
			return fmt.Errorf("encoding log attributes: %w", err)
		}
		w.attrs = append([]byte(`,"attrs":`), attrs...)
	}
	if err := os.MkdirAll(filepath.Dir(c.Path), 0o700); err != nil {
		return fmt.Errorf("opening log: %w", err)
	}
	return w.open(0)
}

func (w *Writer) open(flags int) error {
	f, err := os.OpenFile(w.cfg.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND|flags, 0o640)
	if err != nil {
		return fmt.Errorf("opening log: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close()
		return fmt.Errorf("opening log %s: %w", w.cfg.Path, err)
	}
	w.file, w.size, w.torn = f, size, false
	if size > 0 {
		var last [1]byte
		_, err := f.ReadAt(last[:], size-1)
		w.torn = err != nil || last[0] != '\n'
	}
	return nil
}

// Write takes what a stream produced at a time. A line is kept once it is complete, cut after 16 KiB as Docker does.
// An error means that lines were lost; the next Write tries anew. With Config.Buffer it is of an earlier Write.
func (w *Writer) Write(stream string, p []byte, at time.Time) error {
	if w.queue != nil {
		return w.queue.put(stream, p, at)
	}
	return w.write(stream, p, at)
}

func (w *Writer) write(stream string, p []byte, at time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.cfg.kept() && w.forward == nil {
		return nil
	}
	u := w.pending[stream]
	if u == nil {
		return fmt.Errorf("writing log: no stream %q", stream)
	}
	var errs error
	for len(p) > 0 {
		line, ends := p, false
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line, ends = p[:i], true
		}
		if room := maxText - len(u.text); len(line) >= room {
			u.keep(line[:room], at)
			p = p[room:]
			cut := wholeRunes(u.text)
			rest := append([]byte(nil), u.text[cut:]...)
			u.text = u.text[:cut]
			errs = errors.Join(errs, w.emit(stream, u, nil, false, at))
			u.text = append(u.text, rest...)
			continue
		}
		p = p[len(line):]
		if !ends {
			u.keep(line, at)
			break
		}
		errs = errors.Join(errs, w.emit(stream, u, line, true, at))
		u.since = time.Time{}
		p = p[1:]
	}
	return errors.Join(errs, w.flush())
}

// wholeRunes is the length of text without a UTF-8 character that is torn apart at its end.
func wholeRunes(text []byte) int {
	n := len(text)
	for back := 1; back < utf8.UTFMax && back < n; back++ {
		if utf8.RuneStart(text[n-back]) {
			if utf8.FullRune(text[n-back:]) {
				return n
			}
			return n - back
		}
	}
	return n
}

func (u *unfinished) keep(text []byte, at time.Time) {
	if u.since.IsZero() {
		u.since = at
	}
	u.text = append(u.text, text...)
}

// emit keeps one record and passes it on: what was pending and text, with a newline if the line ends here.
func (w *Writer) emit(stream string, u *unfinished, text []byte, ends bool, at time.Time) error {
	if u.since.IsZero() {
		u.since = at
	}
	if len(u.text) > 0 {
		// A character of several bytes may be split between the two, so they are joined before they are encoded.
		u.text = append(u.text, text...)
		text = u.text
	}
	var err error
	if w.forward != nil {
		err = w.forward.send(stream, text, u.since, !ends && !w.closing)
	}
	if w.cfg.kept() {
		err = errors.Join(err, w.keep(stream, text, ends, u.since))
	}
	u.text = u.text[:0]
	return err
}

// keep adds one record to the batch.
func (w *Writer) keep(stream string, text []byte, ends bool, since time.Time) error {
	var err error
	if w.cfg.MaxSize > 0 && w.size+int64(len(w.batch)) >= w.cfg.MaxSize {
		err = errors.Join(w.flush(), w.rotate())
	}
	b := append(w.batch, `{"log":"`...)
	b = appendEscaped(b, text)
	if ends {
		b = append(b, `\n`...)
	}
	b = append(b, `","stream":"`...)
	b = append(b, stream...)
	b = append(b, '"')
	b = append(b, w.attrs...)
	b = append(b, `,"time":"`...)
	b = since.UTC().AppendFormat(b, time.RFC3339Nano)
	w.batch = append(b, "\"}\n"...)
	return err
}

func (w *Writer) flush() error {
	if len(w.batch) == 0 {
		return nil
	}
	b := w.batch
	defer func() { w.batch = keepSmall(b) }()
	if w.file == nil { // a rotation failed half way
		if err := w.open(0); err != nil {
			return err
		}
	}
	if w.torn {
		if _, err := w.file.Write([]byte{'\n'}); err != nil {
			return fmt.Errorf("writing log: %w", err)
		}
		w.size, w.torn = w.size+1, false
	}
	n, err := w.file.Write(b)
	w.size += int64(n)
	w.torn = n > 0 && b[n-1] != '\n'
	if err != nil {
		return fmt.Errorf("writing log: %w", err)
	}
	return nil
}

// keepSmall empties a buffer, and lets go of one that a burst has blown up.
func keepSmall(b []byte) []byte {
	if cap(b) > 128<<10 {
		return nil
	}
	return b[:0]
}

func (w *Writer) rotate() error {
	if w.file != nil {
		w.file.Close()
		w.file = nil
	}
	if w.cfg.MaxFile < 2 {
		return w.open(os.O_TRUNC)
	}
	if w.compressing != nil {
		<-w.compressing
	}
	for i := w.cfg.MaxFile - 1; i > 0; i-- {
		if err := shift(rotated(w.cfg.Path, i-1), rotated(w.cfg.Path, i)); err != nil {
			return errors.Join(fmt.Errorf("rotating log: %w", err), w.open(0))
		}
	}
	if w.cfg.Compress {
		w.compressing = make(chan struct{})
		go func(done chan<- struct{}) {
			defer close(done)
			_ = compress(rotated(w.cfg.Path, 1)) // what could not be compressed is readable as it is
		}(w.compressing)
	}
	return w.open(0)
}

// shift renames a rotated file, compressed or not, over one that goes.
func shift(from, to string) error {
	for _, suffix := range []string{"", gzSuffix} {
		err := os.Rename(from+suffix, to+suffix)
		if errors.Is(err, os.ErrNotExist) {
			err = os.Remove(to + suffix)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// rotated is the path of the file that i rotations have passed over.
func rotated(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

// Close keeps lines that have no end yet and closes the file.
func (w *Writer) Close() error {
	if w.queue != nil {
		w.queue.close()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		return nil
	}
	w.closing = true
	var errs error
	for _, stream := range []string{Stdout, Stderr} {
		if u := w.pending[stream]; len(u.text) > 0 {
			errs = errors.Join(errs, w.emit(stream, u, nil, false, u.since))
		}
	}
	if w.file != nil || len(w.batch) > 0 {
		errs = errors.Join(errs, w.flush())
	}
	if w.file != nil {
		errs = errors.Join(errs, w.file.Close())
		w.file = nil
	}
	if w.forward != nil {
		errs = errors.Join(errs, w.forward.close())
	}
	if w.compressing != nil {
		<-w.compressing
	}
	return errs
}
