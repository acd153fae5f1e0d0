package api

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/api-coverage.md")

const coverageFile = "../../docs/api-coverage.md"

// TestCoverage holds that the document says what the table of routes does.
func TestCoverage(t *testing.T) {
	want := coverage()
	if *update {
		if err := os.WriteFile(coverageFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(coverageFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what routes.go says; run: go test ./engine/api -run TestCoverage -update", coverageFile)
	}
}

func coverage() string {
	var b strings.Builder
	served := 0
	all := routes()
	for _, r := range all {
		if r.note == "" {
			served++
		}
	}
	fmt.Fprintf(&b, "# The Docker Engine API in berthd\n\n"+
		"Made from `engine/api/routes.go` by `go test ./engine/api -run TestCoverage -update`.\n\n"+
		"API %s to %s, with and without the version in the path. %d of %d routes are served; the others answer as noted.\n"+
		"\"observe\" changes nothing, \"control\" changes or runs something.\n\n"+
		"| Method | Path | Since | Access | |\n|---|---|---|---|---|\n", oldest, newest, served, len(all))
	for _, r := range all {
		note := r.note
		if note == "" {
			note = "served"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s |\n", r.method, r.path, r.since, r.access, note)
	}
	return b.String()
}

func TestRoutesAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range routes() {
		key := r.method + " " + r.path
		if seen[key] {
			t.Errorf("%s is there twice", key)
		}
		seen[key] = true
		if r.handle == nil || r.since < oldest || r.since > newest {
			t.Errorf("%s: incomplete", key)
		}
	}
}
