//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// measureSizes weighs what is shipped.
func measureSizes(ctx context.Context, b *bench) ([]figure, error) {
	progress("compressing berthd")
	packed, err := compressed(ctx, filepath.Join(b.bin, "berthd"))
	if err != nil {
		return nil, err
	}
	root, err := sizeOf(filepath.Join(b.bin, "guest/root.erofs"))
	if err != nil {
		return nil, err
	}
	boot, err := sizeOf(filepath.Join(b.bin, "guest/vmlinuz"), filepath.Join(b.bin, "guest/initrd"))
	if err != nil {
		return nil, err
	}
	size := func(what string, bytes int64, most float64) figure {
		return figure{what: what, unit: "MB", ours: []float64{megabytes(bytes)}, target: target{most: most}}
	}
	return []figure{
		size("berthd, compressed (zstd -19)", packed, 20),
		size("guest root", root, 60),
		size("guest kernel + initrd", boot, 20),
	}, nil
}

func sizeOf(paths ...string) (sum int64, err error) {
	for _, p := range paths {
		fi, err := os.Stat(p)
		if err != nil {
			return 0, err
		}
		sum += fi.Size()
	}
	return sum, nil
}

func compressed(ctx context.Context, path string) (int64, error) {
	cmd := exec.CommandContext(ctx, "zstd", "-19", "-T0", "-q", "-c", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, out)
	if err != nil {
		return 0, err
	}
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("compressing %s: %w", path, err)
	}
	return n, nil
}
