//go:build unix

package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/getberth/berth/background"
)

// The right to run a machine goes over to the process that runs it, and ends with it.
func TestRightToRunEndsWithTheProcess(t *testing.T) {
	dir := t.TempDir()
	if alive(dir) {
		t.Fatal("a machine that never ran is alive")
	}
	right, err := takeLife(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := takeLife(dir); !errors.Is(err, errRunning) {
		t.Errorf("taken twice: %v", err)
	}
	cmd := exec.Command("sleep", "1000")
	right.pass(cmd)
	background.Detach(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go cmd.Wait()
	right.release()
	if !alive(dir) {
		t.Error("the machine is not alive while its process runs")
	}
	if err := writeProcess(dir, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := waitDead(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for the end of what runs: %v", err)
	}
	if err := killProcess(dir); err != nil {
		t.Fatal(err)
	}
	if err := waitDead(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if alive(dir) {
		t.Error("the machine is alive after its process has ended")
	}
	if err := killProcess(dir); err != nil {
		t.Errorf("killing what has ended: %v", err)
	}
}

// A process that has the number of an earlier QEMU must not be taken for it, let alone be killed.
func TestReusedProcessNumber(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	b, _ := json.Marshal(process{PID: cmd.Process.Pid, Started: "another boot/12345"})
	os.WriteFile(filepath.Join(dir, processFile), b, 0o600)
	if err := killProcess(dir); err != nil {
		t.Error(err)
	}
	if _, err := startOf(cmd.Process.Pid); err != nil {
		t.Error("a stranger was killed")
	}
}
