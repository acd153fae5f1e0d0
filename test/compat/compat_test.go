//go:build linux

package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const output = "noise without an end of line\x16=== RUN   TestPasses\n" +
	"\x16=== RUN   TestPasses/part\n\x16    --- PASS: TestPasses/part (0.00s)\n" +
	"text of the test\x16--- PASS: TestPasses (0.01s)\n" +
	"\x16=== RUN   TestFails\n    fails_test.go:12: assertion failed: 1 != 2\n\x16--- FAIL: TestFails (0.01s)\n" +
	"\x16=== RUN   TestSkips\n    a_test.go:3: not here\n\x16--- SKIP: TestSkips (0.00s)\n" +
	"\x16=== RUN   TestHangs\nstill at it\n"

func TestResults(t *testing.T) {
	want := results{
		"TestPasses": {outcome: passed}, "TestFails": {failed, "1 != 2"}, "TestSkips": {skipped, "not here"}, "TestHangs": {failed, "did not end"},
	}
	if got := parseResults([]byte(output)); !maps.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestComparison(t *testing.T) {
	got := results{"A": {outcome: passed}, "B": {outcome: failed}, "C": {outcome: passed}, "D": {outcome: failed}, "E": {outcome: skipped}, "F": {outcome: passed}}
	l := lists{
		pass:    []string{"A", "B", "Gone"},
		known:   map[string]string{"C": "does not work", "D": "does not work", "F": "flaky: needs luck"},
		dockerd: []string{"A", "B", "C"},
	}
	for _, tc := range []struct {
		what string
		got  []string
		want []string
	}{
		{"missed", l.missed(got), []string{"B", "Gone"}},
		{"improved", l.improved(got), []string{"C"}},
		{"unlisted", l.unlisted(got), []string{"E"}},
	} {
		if !slices.Equal(tc.got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.what, tc.got, tc.want)
		}
	}
	if here, there := l.shared(got); here != 2 || there != 3 {
		t.Errorf("%d of %d, want 2 of 3", here, there)
	}
	if p := (row{"s", l, got}).problems(); len(p) != 3 {
		t.Errorf("problems %q, want those of B, Gone and E", p)
	}
	l.update(got)
	if want := []string{"A", "C"}; !slices.Equal(l.pass, want) {
		t.Errorf("updated, %q pass, want %q", l.pass, want)
	}
	if l.known["D"] != "does not work" || l.known["F"] == "" || l.known["E"] == "" || l.known["B"] == "" {
		t.Errorf("updated, %q are known", l.known)
	}
}

// A list that contradicts itself, or a failure without a reason, is found at once.
func TestListsAreSound(t *testing.T) {
	h := &house{lists: "."}
	for _, s := range suites() {
		l, err := h.readLists(s)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if len(l.pass)+len(l.known) == 0 {
			t.Errorf("%s has no lists", s.name)
		}
		if !slices.IsSorted(l.pass) {
			t.Errorf("%s.pass is not sorted", s.name)
		}
	}
	h.lists = t.TempDir()
	s := suite{name: "x/y"}
	for text, want := range map[string]string{"TestA\n": "no reason", "TestA because\n": "both in"} {
		for kind, body := range map[string]string{"pass": "TestA\n", "known": text} {
			path := filepath.Join(h.lists, "x", "y."+kind)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.readLists(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func TestChoice(t *testing.T) {
	for _, tc := range []struct {
		names []string
		ci    bool
		want  int
	}{{nil, false, len(suites())}, {[]string{"moby"}, false, 5}, {[]string{"moby/image", "cli/stack"}, false, 2}, {[]string{"none"}, false, 0}, {[]string{"moby/container"}, true, 0}} {
		if got := choose(suites(), tc.names, tc.ci); len(got) != tc.want {
			t.Errorf("%q: %d suites, want %d", tc.names, len(got), tc.want)
		}
	}
}
