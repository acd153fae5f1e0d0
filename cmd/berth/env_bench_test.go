//go:build linux

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const benchRecord = `{"version":1,"name":"web1","driver":"qemu","phase":"ready","created":"2026-01-02T03:04:05Z",
"endpoint":{"address":"10.0.0.9","enginePort":2376,"sshHost":"10.0.0.9","sshPort":22,"sshUser":"root"}}`

func benchStore(b *testing.B) string {
	b.Helper()
	store := b.TempDir()
	dir := filepath.Join(store, "machines", "web1")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "machine.json"), []byte(benchRecord), 0o600); err != nil {
		b.Fatal(err)
	}
	return store
}

// BenchmarkEnv is what `berth env` does once its process runs.
func BenchmarkEnv(b *testing.B) {
	store := benchStore(b)
	getenv := func(k string) string { return map[string]string{"BERTH_HOME": store, "SHELL": "/bin/sh"}[k] }
	for b.Loop() {
		a := &app{in: strings.NewReader(""), out: io.Discard, err: os.Stderr, args: []string{"berth", "env", "web1"}, getenv: getenv, now: time.Now, drivers: allDrivers}
		if status := a.run(b.Context()); status != 0 {
			b.Fatal(status)
		}
	}
}
