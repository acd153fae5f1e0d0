//go:build linux

package image

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/getberth/berth/test/images"
)

// BenchmarkRun is what `docker run --rm` asks of the store.
func BenchmarkRun(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("requires root: mounts overlay")
	}
	img, err := images.Busybox()
	if err != nil {
		b.Skip(err)
	}
	var archive bytes.Buffer
	if err := images.WriteOCIArchive(&archive, "busybox:1.24", img); err != nil {
		b.Fatal(err)
	}
	s, err := Open(b.Context(), Config{Root: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if err := s.Load(b.Context(), &archive, nil, discard); err != nil {
		b.Fatal(err)
	}
	target := filepath.Join(b.TempDir(), "rootfs")
	if err := os.Mkdir(target, 0o755); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.UnmountRootFS(b.Context(), target) }()
	steps := []struct {
		name string
		do   func(key string) error
	}{
		{"config", func(string) error { _, _, err := s.Config(b.Context(), "busybox:1.24", nil); return err }},
		{"prepare", func(key string) error { return s.PrepareRootFS(b.Context(), key, "busybox:1.24", nil) }},
		{"mount", func(key string) error { return s.MountRootFS(b.Context(), key, target) }},
		{"unmount", func(string) error { return s.UnmountRootFS(b.Context(), target) }},
		{"remove", func(key string) error { return s.RemoveRootFS(b.Context(), key) }},
	}
	spent := make([]float64, len(steps))
	n := 0
	for b.Loop() {
		n++
		for i, step := range steps {
			before := b.Elapsed()
			if err := step.do(fmt.Sprint("c", n)); err != nil {
				b.Fatal(err)
			}
			spent[i] += float64((b.Elapsed() - before).Microseconds())
		}
	}
	for i, step := range steps {
		b.ReportMetric(spent[i]/float64(n), step.name+"-µs")
	}
}
