package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// lists say how a suite's tests should end.
type lists struct {
	pass    []string
	known   map[string]string // what does not pass, and why
	dockerd []string          // what passes there; empty when that is unknown
}

// flaky begins the reason of a test that may end either way.
const flaky = "flaky:"

func (h *house) list(s suite, kind string) string { return filepath.Join(h.lists, s.name+"."+kind) }

func (h *house) readLists(s suite) (l lists, err error) {
	l.known = map[string]string{}
	known, err := readLines(h.list(s, "known"))
	if err != nil {
		return l, err
	}
	for _, line := range known {
		name, reason, ok := strings.Cut(line, " ")
		if !ok {
			return l, fmt.Errorf("%s: %s has no reason", h.list(s, "known"), name)
		}
		l.known[name] = strings.TrimSpace(reason)
	}
	if l.pass, err = readLines(h.list(s, "pass")); err != nil {
		return l, err
	}
	for _, name := range l.pass {
		if l.known[name] != "" {
			return l, fmt.Errorf("%s is both in %s and in %s", name, h.list(s, "pass"), h.list(s, "known"))
		}
	}
	l.dockerd, err = readLines(h.list(s, "dockerd"))
	return l, err
}

// readLines reads a list; one that does not exist is empty.
func readLines(path string) (lines []string, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for scan := bufio.NewScanner(f); scan.Scan(); err = scan.Err() {
		if line := strings.TrimSpace(scan.Text()); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines, err
}

func (h *house) writeLists(s suite, l lists) error {
	var known []string
	for _, name := range slices.Sorted(maps.Keys(l.known)) {
		known = append(known, name+" "+l.known[name])
	}
	return errors.Join(writeLines(h.list(s, "pass"), l.pass), writeLines(h.list(s, "known"), known))
}

func (h *house) writePeer(s suite, l lists) error { return writeLines(h.list(s, "dockerd"), l.dockerd) }

func writeLines(path string, lines []string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	var text strings.Builder
	for _, line := range lines {
		text.WriteString(line + "\n")
	}
	return os.WriteFile(path, []byte(text.String()), 0o644)
}

// missed are the tests that should have passed and did not.
func (l lists) missed(got results) []string {
	return slices.DeleteFunc(slices.Clone(l.pass), func(name string) bool { return got[name].outcome == passed })
}

// improved are the tests that pass though they are not expected to.
func (l lists) improved(got results) []string {
	return slices.DeleteFunc(got.passed(), func(name string) bool {
		reason, ok := l.known[name]
		return !ok || strings.HasPrefix(reason, flaky)
	})
}

// unlisted are tests of which no list knows.
func (l lists) unlisted(got results) []string {
	return slices.DeleteFunc(got.names(), func(name string) bool {
		_, known := l.known[name]
		return known || slices.Contains(l.pass, name)
	})
}

// update makes the lists what the outcome was. Of a test that did not pass, a reason that is known stays.
func (l *lists) update(got results) {
	known := map[string]string{}
	l.pass = nil
	for _, name := range got.names() {
		r, reason := got[name], l.known[name]
		switch {
		case r.outcome == passed && !strings.HasPrefix(reason, flaky):
			l.pass = append(l.pass, name)
		case reason != "":
			known[name] = reason
		default:
			known[name] = newReason(r)
		}
	}
	l.known = known
}

func newReason(r result) string {
	kind := "fails:"
	if r.outcome == skipped {
		kind = "skipped:"
	}
	return kind + " " + strings.Join(strings.Fields(r.reason+" "), " ")
}

// shared counts the tests that pass on dockerd, and those of them that passed here.
func (l lists) shared(got results) (here, there int) {
	for _, name := range l.dockerd {
		if got[name].outcome == passed {
			here++
		}
	}
	return here, len(l.dockerd)
}
