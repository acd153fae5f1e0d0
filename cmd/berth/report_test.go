package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/getberth/berth/hostdb"
)

// clock is a second later each time it is asked.
func clock() func() time.Time {
	now := time.Unix(0, 0)
	return func() time.Time { now = now.Add(time.Second); return now }
}

func TestReporterPrintsOneLineForEachStep(t *testing.T) {
	var out bytes.Buffer
	r := &reporter{out: &out, now: clock()}
	end := r.Step("web1", "Booting")
	r.Note("web1", "KVM cannot boot here")
	end(nil)
	r.several = true
	r.Step("web2", "Stopping")(errors.New("no"))
	want := "KVM cannot boot here\nBooting  1.0s\n(web2) Stopping  1.0s  failed\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestQuietReporterSaysNothing(t *testing.T) {
	var out bytes.Buffer
	r := &reporter{out: &out, quiet: true, now: clock()}
	r.Step("web1", "Booting")(nil)
	r.Note("web1", "x")
	if out.Len() > 0 {
		t.Errorf("it says %q", out.String())
	}
}

func TestSpinnerLeavesNoTrace(t *testing.T) {
	var out bytes.Buffer
	r := &reporter{out: &out, live: true, now: clock()}
	end := r.Step("web1", "Booting")
	for drawn := false; !drawn; { // until the spinner has drawn itself
		r.mu.Lock()
		drawn = r.shown
		r.mu.Unlock()
	}
	end(nil)
	if !strings.HasSuffix(out.String(), "\r\x1b[K"+strings.TrimPrefix(lastLine(out.String()), "\r\x1b[K")) || r.shown || r.stop != nil {
		t.Errorf("the spinner is still there: %q", out.String())
	}
}

func lastLine(s string) string {
	s = strings.TrimSuffix(s, "\n")
	return s[strings.LastIndexByte(s, '\r'):] + "\n"
}

func TestLiveTableAlignsWhatItCannotKnow(t *testing.T) {
	var out bytes.Buffer
	f, err := parseFormat("")
	if err != nil {
		t.Fatal(err)
	}
	entries := []hostdb.Entry{{Name: "a", Err: hostdb.ErrBroken}, {Name: "long-name", Machine: &hostdb.Machine{
		Driver: "qemu", Endpoint: &hostdb.Endpoint{Address: "127.0.10.1", EnginePort: 2376}}}}
	table, err := newLiveTable(&out, f, entries)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{listHeaders(), listItem{Name: "a", Active: "-", State: "Error", Error: "x"}, listItem{Name: "long-name", URL: "tcp://127.0.10.1:2376"}} {
		if err := table.print(v); err != nil {
			t.Fatal(err)
		}
	}
	want := `NAME        ACTIVE   DRIVER      STATE     URL                     SWARM   DOCKER     ERRORS
a           -                    Error                                                x
long-name                                  tcp://127.0.10.1:2376                      
`
	if out.String() != want {
		t.Errorf("got\n%q\nwant\n%q", out.String(), want)
	}
}
