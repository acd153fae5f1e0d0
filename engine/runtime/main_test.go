//go:build linux

package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// testShim is the supervisor that TestMain has built; empty when it cannot be.
var testShim string

// helperVariable makes the test program do something else than testing, in a process of its own.
const helperVariable = "BERTH_RUNTIME_TEST_HELPER"

func TestMain(m *testing.M) {
	if name := os.Getenv(helperVariable); name != "" {
		os.Exit(runHelper(name))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "berth-runtime-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if path := os.Getenv("BERTH_SHIM"); path != "" {
		testShim = path
	} else if os.Geteuid() == 0 {
		path := filepath.Join(dir, "berth-shim")
		cmd := exec.Command("go", "build", "-tags", "netgo osusergo seccomp", "-trimpath",
			"-ldflags", "-s -w -linkmode external -extldflags -static", "-o", path, "github.com/getberth/berth/cmd/berth-shim")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building the supervisor: %v\n%s", err, out)
			return 1
		}
		testShim = path
	}
	return m.Run()
}
