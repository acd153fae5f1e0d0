package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// process is a QEMU that was started. A process number alone is no identity: numbers are used again.
type process struct {
	PID     int    `json:"pid"`
	Started string `json:"started"` // what its operating system calls the moment of its start
}

// errRunning is the refusal to start what runs.
var errRunning = errors.New("its QEMU is running already")

func writeProcess(dir string, pid int) error {
	started, err := startOf(pid)
	if err != nil {
		return fmt.Errorf("identifying QEMU's process %d: %w", pid, err)
	}
	b, err := json.Marshal(process{pid, started})
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, processFile), b)
}

// readProcess returns the process that was recorded, if it is the one that has its number now.
func readProcess(dir string) (process, bool) {
	var p process
	b, err := os.ReadFile(filepath.Join(dir, processFile))
	if err != nil || json.Unmarshal(b, &p) != nil || p.PID <= 0 {
		return p, false
	}
	started, err := startOf(p.PID)
	return p, err == nil && started == p.Started
}

// killProcess ends the recorded process at once, if it runs.
func killProcess(dir string) error {
	p, ok := readProcess(dir)
	if !ok {
		return nil
	}
	proc, err := os.FindProcess(p.PID) // holds on to the process, where the system can
	if err != nil {
		return nil
	}
	defer proc.Release()
	if _, still := readProcess(dir); !still {
		return nil
	}
	if err := proc.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing QEMU (process %d): %w", p.PID, err)
	}
	return nil
}

// waitDead returns when a machine's QEMU has ended.
func waitDead(ctx context.Context, dir string) error {
	done := make(chan error, 1)
	go func() { done <- awaitDeath(dir) }() // ends with QEMU, whoever still waits
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the end of QEMU: %w", ctx.Err())
	}
}

// tail returns the last lines of a file, at most n, made fit for a terminal: what a guest prints may be meant to take it over.
func tail(path string, n int) string {
	const most = 16 << 10
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return ""
	}
	b := make([]byte, most)
	m, _ := f.ReadAt(b, max(0, fi.Size()-most))
	lines := strings.Split(strings.TrimSpace(printable(string(b[:m]))), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}

// printable keeps line feeds and printable ASCII, and takes terminal escape sequences for what they are.
func printable(s string) string {
	var b strings.Builder
	escape := false
	for _, r := range s {
		switch {
		case escape: // ESC [ parameters letter
			escape = r == '[' || r == ';' || r == '?' || r >= '0' && r <= '9'
		case r == 0x1b:
			escape = true
		case r == '\n' || r == '\t' || r >= 0x20 && r < 0x7f:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// shortly is a context for what answers at once if it answers at all, also when ctx is done already.
func shortly(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), d)
}
