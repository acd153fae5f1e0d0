package logs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func compressed(t *testing.T) Config {
	c := config(t)
	c.MaxSize, c.MaxFile, c.Compress = 2000, 4, true
	return c
}

func TestCompressedFilesAreRead(t *testing.T) {
	c := compressed(t)
	w := open(t, c)
	for i := range 100 { // about 80 bytes each, so that no file goes
		write(t, w, Stdout, fmt.Sprintln(i), morning)
	}
	w.Close()
	names, _ := filepath.Glob(c.Path + "*")
	if len(names) != 4 || names[1] != c.Path+".1.gz" || names[3] != c.Path+".3.gz" {
		t.Errorf("the files are %q", names)
	}
	got := read(t, c, Query{Tail: -1})
	if len(got) < 75 || got[len(got)-1] != "stdout:99\n" {
		t.Fatalf("%d lines", len(got))
	}
	for i, line := range got {
		if want := fmt.Sprintf("stdout:%d\n", 100-len(got)+i); line != want {
			t.Fatalf("line %d is %q, not %q", i, line, want)
		}
	}
	if got := read(t, c, Query{Tail: 60}); len(got) != 60 || got[0] != "stdout:40\n" {
		t.Errorf("the tail has %d lines, the first is %q", len(got), got[0])
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(c.Path), ".*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestFollowAcrossCompression neither loses nor doubles a line while files are rotated and compressed under the reader.
func TestFollowAcrossCompression(t *testing.T) {
	c := compressed(t)
	w := open(t, c)
	const lines = 500
	written, done := make(chan int, lines), make(chan struct{})
	go func() {
		defer close(done)
		for i := range lines {
			_ = w.Write(Stdout, []byte(fmt.Sprintln(i)), morning)
			if i%10 == 9 { // no further ahead than the files hold
				for range 10 {
					<-written
				}
			}
		}
		w.Close()
	}()
	next := 0
	err := Read(context.Background(), c, Query{Tail: -1, Follow: true, Done: done}, func(l Line) error {
		if want := fmt.Sprintln(next); string(l.Text) != want {
			return fmt.Errorf("got %q, want %q", l.Text, want)
		}
		next++
		written <- next
		return nil
	})
	if err != nil || next != lines {
		t.Errorf("%d lines, %v", next, err)
	}
}

func TestBrokenCompressedFile(t *testing.T) {
	c := compressed(t)
	w := open(t, c)
	for i := range 60 {
		write(t, w, Stdout, fmt.Sprintln(i), morning)
	}
	w.Close()
	data, err := os.ReadFile(c.Path + ".1.gz")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.Path+".1.gz", data[:len(data)-20], 0o600); err != nil { // as a full disk leaves it
		t.Fatal(err)
	}
	if got := read(t, c, Query{Tail: -1}); len(got) == 0 || got[len(got)-1] != "stdout:59\n" {
		t.Errorf("%d lines", len(got))
	}
}
