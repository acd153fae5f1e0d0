package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/machine"
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
		drawn = r.shown > 0
		r.mu.Unlock()
	}
	end(nil)
	if !strings.HasSuffix(out.String(), "\r\x1b[K"+strings.TrimPrefix(lastLine(out.String()), "\r\x1b[K")) || r.shown > 0 || r.stop != nil {
		t.Errorf("the spinner is still there: %q", out.String())
	}
}

// TestSeveralMachinesHaveALineEach: on a terminal, as far as there is room.
func TestSeveralMachinesHaveALineEach(t *testing.T) {
	var out bytes.Buffer
	r := &reporter{out: &out, live: true, several: true, now: clock(), size: func() (int, int) { return 20, 5 }}
	ends := map[string]func(error){}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		ends[name] = r.Step(name, "Creating the machine")
	}
	ends["b"](nil)
	ends["b"] = r.Step("b", "Waiting")
	r.mu.Lock()
	lines := r.liveLines('|')
	r.mu.Unlock()
	if len(lines) != 4 || lines[1][:11] != "| (b) Waiti" || lines[3] != "  … and 2 more" || len(lines[0]) != 19 {
		t.Errorf("the lines are %q", lines)
	}
	r.Note("c", "slow")
	ends["a"](errors.New("no"))
	for _, name := range []string{"b", "c", "d", "e"} {
		ends[name](nil)
	}
	text := out.String()
	if !strings.Contains(text, "(c) slow\n") || !strings.Contains(text, "(a) Creating the machine  ") {
		t.Errorf("what stays is %q", text)
	}
	if r.shown != 0 || r.stop != nil {
		t.Error("the lines are still there")
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
	table, err := newLiveTable(&out, f, entries, (&machine.Manager{}).URL)
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
