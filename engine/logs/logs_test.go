package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var morning = time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)

func config(t *testing.T) Config {
	return Config{Driver: "json-file", Path: filepath.Join(t.TempDir(), "c-json.log"), MaxFile: 1}
}

func open(t *testing.T, c Config) *Writer {
	t.Helper()
	w, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func write(t *testing.T, w *Writer, stream, text string, at time.Time) {
	t.Helper()
	if err := w.Write(stream, []byte(text), at); err != nil {
		t.Fatal(err)
	}
}

// read returns the lines as "stream:text".
func read(t *testing.T, c Config, q Query) []string {
	t.Helper()
	var got []string
	err := Read(context.Background(), c, q, func(l Line) error {
		got = append(got, l.Stream+":"+string(l.Text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestFormatIsDockers(t *testing.T) {
	c := config(t)
	c.Attrs = map[string]string{"b": "2", "a": "<1>"}
	w := open(t, c)
	write(t, w, Stdout, "hello \"<you>\"\n", morning)
	write(t, w, Stderr, "\x01\t\xff é\u2028", morning)
	w.Close()
	got, err := os.ReadFile(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"log":"hello \"\u003cyou\u003e\"\n","stream":"stdout","attrs":{"a":"\u003c1\u003e","b":"2"},"time":"2026-01-02T03:04:05.0000006Z"}
{"log":"\u0001\t\ufffd é\u2028","stream":"stderr","attrs":{"a":"\u003c1\u003e","b":"2"},"time":"2026-01-02T03:04:05.0000006Z"}
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	err = Read(context.Background(), c, Query{Tail: -1}, func(l Line) error {
		if !l.Time.Equal(morning) || l.Attrs["a"] != "<1>" {
			t.Errorf("read back %+v", l)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLinesAreWholeAndStreamsApart(t *testing.T) {
	c := config(t)
	w := open(t, c)
	write(t, w, Stdout, "one\ntw", morning)
	write(t, w, Stderr, "err", morning)
	write(t, w, Stdout, "o\n", morning)
	write(t, w, Stderr, "or\nend", morning)
	w.Close()
	want := []string{"stdout:one\n", "stdout:two\n", "stderr:error\n", "stderr:end"}
	if diff := cmp.Diff(want, read(t, c, Query{Tail: -1})); diff != "" {
		t.Error(diff)
	}
}

func TestLongLinesAreCut(t *testing.T) {
	for _, n := range []int{maxText - 1, maxText, maxText + 1, 2*maxText + 5} {
		for _, step := range []int{7, 4096, 1 << 20} {
			c := config(t)
			w := open(t, c)
			text := strings.Repeat("x", n) + "\nnext\n"
			for rest := text; rest != ""; {
				k := min(step, len(rest))
				write(t, w, Stdout, rest[:k], morning)
				rest = rest[k:]
			}
			w.Close()
			var whole strings.Builder
			for _, line := range read(t, c, Query{Tail: -1}) {
				line = strings.TrimPrefix(line, "stdout:")
				if len(line) > maxText+1 {
					t.Errorf("a record of %d bytes", len(line))
				}
				whole.WriteString(line)
			}
			if whole.String() != text {
				t.Errorf("%d bytes by %d: %d came back", n, step, whole.Len())
			}
		}
	}
}

func TestCutsBetweenCharacters(t *testing.T) {
	for pad := range 4 {
		c := config(t)
		w := open(t, c)
		text := strings.Repeat("a", pad) + strings.Repeat("🚢", maxText) + "\n"
		write(t, w, Stdout, text[:maxText-1], morning)
		write(t, w, Stdout, text[maxText-1:], morning)
		w.Close()
		got := strings.ReplaceAll(strings.Join(read(t, c, Query{Tail: -1}), ""), "stdout:", "")
		if got != text {
			t.Errorf("pad %d: text was changed", pad)
		}
	}
}

func TestTail(t *testing.T) {
	c := config(t)
	c.MaxFile, c.MaxSize = 5, 300
	w := open(t, c)
	var all []string
	for i := range 12 {
		write(t, w, Stdout, fmt.Sprintf("line %d\n", i), morning)
		all = append(all, fmt.Sprintf("stdout:line %d\n", i))
	}
	if _, err := os.Stat(c.Path + ".2"); err != nil {
		t.Fatal("not rotated as the test needs it:", err)
	}
	for n := range 14 {
		want := all[max(0, 12-n):]
		if diff := cmp.Diff(want, read(t, c, Query{Tail: n}), cmp.Transformer("", func(s []string) string { return strings.Join(s, "") })); diff != "" {
			t.Errorf("tail %d: %s", n, diff)
		}
	}
}

func TestRotationKeepsMaxFile(t *testing.T) {
	for _, files := range []int{1, 2, 3} {
		c := config(t)
		c.MaxFile, c.MaxSize = files, 200
		w := open(t, c)
		for i := range 50 {
			write(t, w, Stdout, fmt.Sprintf("line %d\n", i), morning)
		}
		names, _ := filepath.Glob(c.Path + "*")
		if len(names) != files {
			t.Errorf("max-file %d left %v", files, names)
		}
		got := read(t, c, Query{Tail: 1})
		if diff := cmp.Diff([]string{"stdout:line 49\n"}, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestRotationWithinOneWrite(t *testing.T) {
	c := config(t)
	c.MaxFile, c.MaxSize = 100, 1000
	w := open(t, c)
	write(t, w, Stdout, strings.Repeat("abc\n", 500), morning)
	if got := read(t, c, Query{Tail: -1}); len(got) != 500 {
		t.Errorf("%d lines of 500", len(got))
	}
	info, _ := os.Stat(c.Path + ".1")
	if info == nil || info.Size() > 1100 {
		t.Errorf("rotated file: %v", info)
	}
}

func TestTornAndBrokenLinesAreSkipped(t *testing.T) {
	c := config(t)
	w := open(t, c)
	write(t, w, Stdout, "one\n", morning)
	w.Close()
	appendTo(t, c.Path, `{"log":"torn by a cra`)
	if diff := cmp.Diff([]string{"stdout:one\n"}, read(t, c, Query{Tail: -1})); diff != "" {
		t.Error(diff)
	}
	w = open(t, c)
	write(t, w, Stdout, "two\n", morning)
	w.Close()
	appendTo(t, c.Path, "null\n\n[]\n{}\n\x00\x00\n"+strings.Repeat("y", 3*maxRecord)+"\n")
	w = open(t, c)
	write(t, w, Stdout, "three\n", morning)
	want := []string{"stdout:one\n", "stdout:two\n", "stdout:three\n"}
	if diff := cmp.Diff(want, read(t, c, Query{Tail: -1})); diff != "" {
		t.Error(diff)
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestSinceUntil(t *testing.T) {
	c := config(t)
	w := open(t, c)
	for i := range 5 {
		write(t, w, Stdout, fmt.Sprint(i, "\n"), morning.Add(time.Duration(i)*time.Second))
	}
	q := Query{Tail: -1, Since: morning.Add(time.Second), Until: morning.Add(3 * time.Second)}
	want := []string{"stdout:1\n", "stdout:2\n", "stdout:3\n"}
	if diff := cmp.Diff(want, read(t, c, q)); diff != "" {
		t.Error(diff)
	}
	q.Follow = true // Until is long past, so following ends at once
	if diff := cmp.Diff(want, read(t, c, q)); diff != "" {
		t.Error(diff)
	}
}

func TestFollowEndsAtUntilWithoutLines(t *testing.T) {
	c := config(t)
	open(t, c)
	if got := read(t, c, Query{Tail: -1, Follow: true, Until: time.Now().Add(50 * time.Millisecond)}); got != nil {
		t.Errorf("read %q", got)
	}
}

func TestFollowAcrossRotations(t *testing.T) {
	const n = 3000
	c := config(t)
	c.MaxFile, c.MaxSize = 200, 2000
	done := make(chan struct{})
	began := make(chan struct{}, n)
	result := make(chan []string)
	go func() {
		var got []string
		err := Read(context.Background(), c, Query{Tail: -1, Follow: true, Done: done}, func(l Line) error {
			got = append(got, string(l.Text))
			began <- struct{}{}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		result <- got
	}()
	w := open(t, c) // the file appears after the reader
	for i := range n {
		write(t, w, Stdout, fmt.Sprintf("line %d\n", i), morning)
		if i == 0 {
			<-began
		}
	}
	w.Close()
	close(done)
	got := <-result
	if len(got) != n {
		t.Fatalf("%d lines of %d", len(got), n)
	}
	for i, line := range got {
		if line != fmt.Sprintf("line %d\n", i) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
}

func TestFollowSurvivesTruncation(t *testing.T) {
	c := config(t)
	c.MaxSize = 150
	w := open(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	lines := make(chan string)
	ended := make(chan error)
	go func() {
		ended <- Read(ctx, c, Query{Tail: -1, Follow: true}, func(l Line) error {
			lines <- string(l.Text)
			return nil
		})
	}()
	for i := range 20 {
		want := fmt.Sprintf("line %d\n", i)
		write(t, w, Stdout, want, morning)
		if got := <-lines; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestFollowWaitsForWholeLines(t *testing.T) {
	c := config(t)
	w := open(t, c)
	write(t, w, Stdout, "one\n", morning)
	record, err := os.ReadFile(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	done := make(chan struct{})
	ended := make(chan error)
	go func() {
		ended <- Read(context.Background(), c, Query{Tail: 1, Follow: true, Done: done}, func(l Line) error {
			lines <- string(l.Text)
			return nil
		})
	}()
	if got := <-lines; got != "one\n" {
		t.Fatalf("got %q", got)
	}
	second := string(bytes.Replace(record, []byte("one"), []byte("two"), 1))
	for _, piece := range []string{second[:10], second[10:30], second[30:]} {
		appendTo(t, c.Path, piece)
	}
	if got := <-lines; got != "two\n" {
		t.Fatalf("got %q", got)
	}
	close(done)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestEmitErrorEndsReading(t *testing.T) {
	c := config(t)
	w := open(t, c)
	write(t, w, Stdout, "one\ntwo\n", morning)
	gone := errors.New("client gone")
	n := 0
	err := Read(context.Background(), c, Query{Tail: -1}, func(Line) error { n++; return gone })
	if !errors.Is(err, gone) || n != 1 {
		t.Errorf("%d lines, error %v", n, err)
	}
}

func TestNone(t *testing.T) {
	c := Config{Driver: "none"}
	w := open(t, c)
	write(t, w, Stdout, "nothing\n", morning)
	if err := Read(context.Background(), c, Query{}, nil); !errors.Is(err, ErrUnreadable) {
		t.Error(err)
	}
}

func TestNoLogYet(t *testing.T) {
	if got := read(t, config(t), Query{Tail: 5}); got != nil {
		t.Errorf("read %q", got)
	}
}

func TestPollingFollows(t *testing.T) {
	w := &watcher{changed: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{})}
	go w.poll()
	<-w.changed
	w.close()
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"log":"a\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}`+"\n"), 3)
	f.Add([]byte("\n\n\x00{\"log\""), 0)
	f.Add([]byte(`{"log":1}`+"\n"+`{"log":"b","stream":"stderr","attrs":{"x":null}}`), -1)
	f.Fuzz(func(t *testing.T, data []byte, tail int) {
		c := config(t)
		if err := os.WriteFile(c.Path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		n := 0
		err := Read(context.Background(), c, Query{Tail: tail}, func(Line) error { n++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		if tail >= 0 && n > tail || n > bytes.Count(data, []byte{'\n'}) {
			t.Errorf("%d lines of %d bytes with tail %d", n, len(data), tail)
		}
	})
}

// FuzzWrite checks that what is written comes back, apart from bytes that are not UTF-8.
func FuzzWrite(f *testing.F) {
	f.Add([]byte("a\nb\\\"\x7f\u2029<"), 1)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		c := config(t)
		w := open(t, c)
		cut = max(0, min(cut, len(data)))
		write(t, w, Stdout, string(data[:cut]), morning)
		write(t, w, Stdout, string(data[cut:]), morning)
		w.Close()
		var got bytes.Buffer
		err := Read(context.Background(), c, Query{Tail: -1}, func(l Line) error { got.Write(l.Text); return nil })
		if err != nil {
			t.Fatal(err)
		}
		if want := string([]rune(string(data))); want != got.String() {
			t.Errorf("wrote %q, read %q", want, got.String())
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	c := Config{Path: filepath.Join(b.TempDir(), "log"), MaxFile: 2, MaxSize: 10 << 20}
	w, err := Open(c)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	chunk := []byte(strings.Repeat("a line as services write them, of some length\n", 700))
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if err := w.Write(Stdout, chunk, morning); err != nil {
			b.Fatal(err)
		}
	}
}
