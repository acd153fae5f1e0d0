package hostdb

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const crashDir = "HOSTDB_CRASH_DIR"

// TestMain lets the test binary be the writer that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		writeForever(dir)
	}
	os.Exit(m.Run())
}

// writeForever counts in the record's error and says each number only when it is durable.
func writeForever(dir string) {
	l, err := New(dir).Lock(context.Background(), "web1")
	for err == nil {
		var m *Machine
		if m, err = l.Get(); err != nil {
			break
		}
		n, _ := strconv.Atoi(m.Error)
		m.Error = strconv.Itoa(n + 1)
		m.DriverState = []byte(`"` + strings.Repeat("x", n%5000) + `"`)
		if err = l.Put(m); err == nil {
			fmt.Println(n + 1)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func TestKilledWriterLosesNothing(t *testing.T) {
	s := New(t.TempDir())
	l := lockT(t, s, "web1")
	m := sample("web1")
	m.Error = "0"
	if err := l.Create(m); err != nil {
		t.Fatal(err)
	}
	l.Unlock()
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		acknowledged := killWriter(t, s.Dir())
		m, err := s.Get("web1")
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := strconv.Atoi(m.Error); n < acknowledged {
			t.Fatalf("the record says %d after %d was acknowledged", n, acknowledged)
		}
	}
	l = lockT(t, s, "web1")
	if err := l.Put(m); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(l.Dir())
	if err != nil || len(left) != 1 {
		t.Errorf("temporary files are left: %v (%v)", left, err)
	}
}

// killWriter runs a writer, kills it after some of its writes and a random while, and returns the last number it said.
func killWriter(t *testing.T, dir string) (last int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	var kill *time.Timer
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last, _ = strconv.Atoi(lines.Text())
		if kill == nil {
			kill = time.AfterFunc(time.Duration(rand.IntN(5000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		}
	}
	if kill == nil {
		t.Fatalf("the writer wrote nothing in %s", filepath.Base(dir))
	}
	return last
}
