package qmp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// monitor plays QEMU's side: it greets and answers each line with what reply returns; "" ends it.
func monitor(t *testing.T, greeting string, reply func(line string) string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { theirs.Close() })
	go func() {
		defer theirs.Close()
		io.WriteString(theirs, greeting)
		for s := bufio.NewScanner(theirs); s.Scan(); {
			r := reply(s.Text())
			if r == "" {
				return
			}
			if _, err := io.WriteString(theirs, r); err != nil {
				return
			}
		}
	}()
	return ours
}

const hello = `{"QMP": {"version": {}, "capabilities": []}}` + "\n"

func ok(line string) string {
	if strings.Contains(line, "query-status") {
		return `{"timestamp": {}, "event": "RESUME"}` + "\n" + `{"return": {"status": "running", "running": true}}` + "\n"
	}
	return `{"return": {}}` + "\n"
}

func TestStatusAmongEvents(t *testing.T) {
	c, err := New(t.Context(), monitor(t, hello, ok))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		if s, err := c.Status(t.Context()); s != "running" || err != nil {
			t.Errorf("status %q, %v", s, err)
		}
	}
}

func TestErrorsAreQEMUs(t *testing.T) {
	c, err := New(t.Context(), monitor(t, hello, func(line string) string {
		if strings.Contains(line, "eject") {
			return `{"error": {"class": "GenericError", "desc": "Device 'x' not found"}}` + "\n"
		}
		return ok(line)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Run(t.Context(), "eject", map[string]string{"device": "x"}, nil)
	var e *Error
	if !errors.As(err, &e) || e.Class != "GenericError" || err.Error() != "QEMU's eject: Device 'x' not found" {
		t.Errorf("got %v", err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("after an error: %v", err)
	}
}

func TestEndOfQEMU(t *testing.T) {
	c, err := New(t.Context(), monitor(t, hello, func(line string) string {
		if strings.Contains(line, "quit") {
			return ""
		}
		return ok(line)
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context(), "quit", nil, nil); !errors.Is(err, ErrGone) {
		t.Errorf("got %v", err)
	}
	<-c.Done()
}

func TestSilentMonitorHoldsNobodyUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := New(ctx, monitor(t, "", ok)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no greeting: %v", err)
	}
	c, err := New(t.Context(), monitor(t, hello, func(line string) string {
		if strings.Contains(line, "stop") {
			return "\n"
		}
		return ok(line)
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Run(ctx, "stop", nil, nil); err == nil {
		t.Error("a command that is not answered succeeds")
	}
}

func FuzzMonitor(f *testing.F) {
	f.Add(hello + `{"return": {}}` + "\n" + `{"return": {"status": "running"}}` + "\n")
	f.Add(hello + "{")
	f.Fuzz(func(t *testing.T, said string) {
		ours, theirs := net.Pipe()
		go io.Copy(io.Discard, theirs)
		go func() { io.WriteString(theirs, said); theirs.Close() }()
		c, err := New(t.Context(), ours)
		if err != nil {
			return
		}
		c.Status(t.Context())
		c.Close()
		<-c.Done()
	})
}
