//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const marker = "<!-- Below this line `make bench` writes. -->\n"

// writeReport replaces what follows the marker in the report; what is above it is written by hand.
func writeReport(ctx context.Context, path string, figures []figure) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, _, found := strings.Cut(string(old), marker)
	if !found {
		return fmt.Errorf("%s has no line %q, after which to write", path, strings.TrimSpace(marker))
	}
	text := head + marker + "\n" + where(ctx) + "\n" + markdown(figures)
	return os.WriteFile(path, []byte(text), 0o644)
}

// where is the computer and the day.
func where(ctx context.Context) string {
	var u unix.Utsname
	_ = unix.Uname(&u) // cannot fail
	_, err := os.Stat("/dev/kvm")
	load := "unknown"
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = strings.Fields(string(b))[0]
	}
	release, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	return fmt.Sprintf("%s, %d cores (%s), Linux %s, %s; light VM by %s; /dev/kvm: %t; load at the end: %s; peers: %s.\n",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), processor(), release, runtime.GOARCH,
		firstLine(ctx, "qemu-system-x86_64", "--version"), err == nil, load, firstLine(ctx, "dockerd", "--version"))
}

func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	_, rest, _ := strings.Cut(string(b), "model name")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimLeft(line, "\t :")
}

func firstLine(ctx context.Context, argv ...string) string {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err != nil {
		return argv[0] + " missing"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
