//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// record is a machine as the store keeps it: one that is ready.
const record = `{"version":1,"name":"web1","driver":"qemu","phase":"ready","created":"2026-01-02T03:04:05Z",
"endpoint":{"address":"127.0.0.9","enginePort":2376,"sshHost":"127.0.0.9","sshPort":22,"sshUser":"root"}}`

// measureEnv times `berth env` beside a Go program that does nothing: the system's price of a process.
func measureEnv(ctx context.Context, b *bench) ([]figure, error) {
	progress("berth env, %d times", b.starts)
	store := filepath.Join(b.dir, "env")
	dir := filepath.Join(store, "machines", "web1")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "machine.json"), []byte(record), 0o600); err != nil {
		return nil, err
	}
	nothing, err := emptyProgram(ctx, b.dir)
	if err != nil {
		return nil, err
	}
	f := figure{what: "berth env", unit: "ms", with: "an empty Go program", target: target{most: 10}}
	for range b.starts {
		ours, err := timed(ctx, []string{"BERTH_HOME=" + store, "SHELL=/bin/sh"}, filepath.Join(b.bin, "berth"), "env", "web1")
		if err != nil {
			return nil, err
		}
		peer, err := timed(ctx, nil, nothing)
		if err != nil {
			return nil, err
		}
		f.ours, f.peer = append(f.ours, milliseconds(ours)), append(f.peer, milliseconds(peer))
	}
	return []figure{f}, nil
}

func emptyProgram(ctx context.Context, dir string) (string, error) {
	source, program := filepath.Join(dir, "empty.go"), filepath.Join(dir, "empty")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building an empty program: %w\n%s", err, out)
	}
	return program, nil
}

// timed runs a command to its end and returns how long that took.
func timed(ctx context.Context, env []string, argv ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("%v: %w\n%s", argv, err, out)
	}
	return took, nil
}
