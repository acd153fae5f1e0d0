package main

import (
	"bufio"
	"bytes"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// outcome is how a test ended.
type outcome string

const (
	passed  outcome = "PASS"
	failed  outcome = "FAIL"
	skipped outcome = "SKIP"
)

// result of one top-level test. Those of its parts are its own.
type result struct {
	outcome outcome
	reason  string // the last thing it said before it failed or skipped itself
}

type results map[string]result

// parseResults reads what a test binary prints with -test.v=test2json: a line of the framework's begins with ^V, wherever in a
// line of the tests' output it stands. A test that began and did not end, for a panic or the time limit, has failed.
func parseResults(out []byte) results {
	var (
		began = regexp.MustCompile(`\x16=== (?:RUN|CONT|NAME) +(\S+)`)
		ended = regexp.MustCompile(`\x16 *--- (PASS|FAIL|SKIP): (\S+) \(`)
		said  = regexp.MustCompile(`^\s+\w+\.go:\d+: (.+)`)
	)
	all, last, current := results{}, map[string]string{}, ""
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := began.FindStringSubmatch(line); m != nil {
			current, _, _ = strings.Cut(m[1], "/")
			if _, ok := all[current]; !ok {
				all[current] = result{outcome: failed, reason: "did not end"}
			}
		}
		if m := ended.FindStringSubmatch(line); m != nil {
			if !strings.Contains(m[2], "/") {
				all[m[2]] = result{outcome(m[1]), last[m[2]]}
			}
			continue
		}
		if m := said.FindStringSubmatch(line); m != nil {
			last[current] = strings.TrimPrefix(strings.TrimSpace(m[1]), "assertion failed: ")
		}
	}
	return all
}

func (r results) names() []string { return slices.Sorted(maps.Keys(r)) }

func (r results) passed() []string {
	return slices.DeleteFunc(r.names(), func(name string) bool { return r[name].outcome != passed })
}

// merge takes over what passed at a second try.
func (r results) merge(second results) {
	for name, s := range second {
		if s.outcome == passed {
			r[name] = s
		}
	}
}
