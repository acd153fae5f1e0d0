package logs

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// listenGram is a datagram socket that reads one message at a time.
func listenGram(t *testing.T) (path string, next func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return path, func() string {
		buf := make([]byte, 1<<16)
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func TestSyslogFormats(t *testing.T) {
	path, next := listenGram(t)
	host, _ := os.Hostname()
	pid := os.Getpid()
	for format, want := range map[string]string{
		"":             fmt.Sprintf("<30>Jan  2 03:04:05 tag[%d]: hello\n", pid),
		"rfc3164":      fmt.Sprintf("<30>Jan  2 03:04:05 %s tag[%d]: hello\n", host, pid),
		"rfc5424":      fmt.Sprintf("<30>1 2026-01-02T03:04:05Z %s tag %d tag - hello\n", host, pid),
		"rfc5424micro": fmt.Sprintf("<30>1 2026-01-02T03:04:05.000000Z %s tag %d tag - hello\n", host, pid),
	} {
		c := config(t)
		c.Forward = &Forward{To: "syslog", Network: "unixgram", Address: path, Facility: 3, Format: format, Tag: "tag"}
		w := open(t, c)
		write(t, w, Stdout, "hello\nnot yet", morning)
		if got := next(); got != want {
			t.Errorf("%s: got %q, want %q", format, got, want)
		}
		w.Close()
		if got := next(); !strings.HasSuffix(got, ": not yet\n") && !strings.HasSuffix(got, "- not yet\n") {
			t.Errorf("%s: at the end: %q", format, got)
		}
		if got := strings.Join(read(t, c, Query{Tail: -1}), ""); got != "stdout:hello\nstdout:not yet" {
			t.Errorf("what was kept: %q", got)
		}
	}
}

// TestSyslogComesBack loses no more than what a dead connection has swallowed.
func TestSyslogComesBack(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := config(t)
	c.NoFile = true
	c.Forward = &Forward{To: "syslog", Network: "tcp", Address: l.Addr().String(), Facility: 1, Tag: "x"}
	w := open(t, c)
	first, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	write(t, w, Stderr, "one\n", morning)
	if line, err := bufio.NewReader(first).ReadString('\n'); err != nil || !strings.HasPrefix(line, "<11>") || !strings.HasSuffix(line, ": one\n") {
		t.Errorf("got %q, %v", line, err)
	}
	first.Close()
	lines := make(chan string)
	go func() {
		second, err := l.Accept()
		if err != nil {
			return
		}
		defer second.Close()
		line, _ := bufio.NewReader(second).ReadString('\n')
		lines <- line
	}()
	for {
		_ = w.Write(Stdout, []byte("more\n"), morning)
		select {
		case line := <-lines:
			if !strings.HasSuffix(line, ": more\n") {
				t.Errorf("got %q", line)
			}
			if err := Read(context.Background(), c, Query{}, nil); err != ErrUnreadable {
				t.Errorf("what is not kept is read: %v", err)
			}
			return
		default:
		}
	}
}

func TestForwardThatCannotBe(t *testing.T) {
	for _, f := range []Forward{
		{To: "syslog", Network: "unix", Address: "/no/such/socket"}, {To: "journald", Address: "/no/such/socket"}, {To: "pigeon"},
	} {
		c := config(t)
		c.Forward = &f
		if _, err := Open(c); err == nil || !strings.Contains(err.Error(), "failed to initialize logging driver") {
			t.Errorf("%+v: got %v", f, err)
		}
	}
}

func TestJournal(t *testing.T) {
	path, next := listenGram(t)
	c := config(t)
	c.Forward = &Forward{To: "journald", Address: path, Fields: map[string]string{"CONTAINER_NAME": "n", "LABEL": "two\nlines"}}
	w := open(t, c)
	write(t, w, Stderr, "hello\n", morning)
	got := next()
	for _, part := range []string{"MESSAGE=hello\n", "PRIORITY=3\n", "CONTAINER_NAME=n\n", "LABEL\n\x09\x00\x00\x00\x00\x00\x00\x00two\nlines\n",
		"CONTAINER_LOG_ORDINAL=1\n", "SYSLOG_TIMESTAMP=2026-01-02T03:04:05.0000006Z\n"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q has no %q", got, part)
		}
	}
	write(t, w, Stdout, strings.Repeat("x", maxText+1)+"\n", morning)
	if got := next(); !strings.Contains(got, "CONTAINER_PARTIAL_MESSAGE=true") || strings.Contains(next(), "PARTIAL") {
		t.Error("parts of a line are not told from lines")
	}
}

// TestQueue does not hold a container up; what does not fit is lost.
func TestQueue(t *testing.T) {
	hold, reached := make(chan struct{}), make(chan struct{}, 8)
	var got []string
	q := newQueue(10, func(_ string, p []byte, _ time.Time) error {
		reached <- struct{}{}
		<-hold
		got = append(got, string(p))
		return nil
	})
	put := func(text string) {
		if err := q.put(Stdout, []byte(text), morning); err != nil {
			t.Error(err)
		}
	}
	put("first")
	<-reached // it is being written and takes no room any more
	put("12345")
	put("67890")
	put("lost")
	close(hold)
	q.close()
	if text := strings.Join(got, " "); text != "first 12345 67890" {
		t.Errorf("got %q", text)
	}
}

func TestBufferedWriterKeepsAll(t *testing.T) {
	c := config(t)
	c.Buffer = 1 << 20
	w := open(t, c)
	for i := range 100 {
		write(t, w, Stdout, fmt.Sprintln(i), morning)
	}
	w.Close()
	if got := read(t, c, Query{Tail: -1}); len(got) != 100 || got[99] != "stdout:99\n" {
		t.Errorf("%d lines", len(got))
	}
}
