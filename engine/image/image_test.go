//go:build linux

package image

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/getberth/berth/test/images"
)

// needRoot skips a test that mounts.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("requires root: mounts overlay")
	}
}

// open opens a store of the test's own.
func open(t *testing.T, change func(*Config)) *Service {
	t.Helper()
	needRoot(t)
	return openAt(t, t.TempDir(), change)
}

func openAt(t *testing.T, root string, change func(*Config)) *Service {
	t.Helper()
	c := Config{Root: root}
	if change != nil {
		change(&c)
	}
	s, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func busybox(t *testing.T) v1.Image {
	t.Helper()
	if _, err := os.Stat(images.BusyboxPath); err != nil {
		t.Skipf("requires busybox-static: %v", err)
	}
	img, err := images.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func serve(t *testing.T, o images.RegistryOptions) *images.Registry {
	t.Helper()
	reg, err := images.Serve(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	return reg
}

// recorder keeps the messages of an operation.
type recorder struct {
	mu   sync.Mutex
	msgs []jsonstream.Message
}

func (r *recorder) add(m jsonstream.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.msgs = append(r.msgs, m)
	return nil
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, m := range r.msgs {
		if m.ID != "" {
			b.WriteString(m.ID + ": ")
		}
		b.WriteString(strings.TrimSuffix(m.Status+m.Stream, "\n") + "\n")
	}
	return b.String()
}

func discard(jsonstream.Message) error { return nil }

// eventLog is an Events that keeps what it is told.
type eventLog struct {
	mu  sync.Mutex
	all []events.Message
}

func (l *eventLog) Publish(m events.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, m)
}

func (l *eventLog) has(action events.Action) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.all {
		if m.Action == action {
			return true
		}
	}
	return false
}

// mounted prepares and mounts a root filesystem, and removes it at the end of the test.
func mounted(t *testing.T, s *Service, key, ref string) string {
	t.Helper()
	target := filepath.Join(t.TempDir(), "rootfs")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.PrepareRootFS(t.Context(), key, ref, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.UnmountRootFS(context.Background(), target); err != nil {
			t.Error(err)
		}
	})
	if err := s.MountRootFS(t.Context(), key, target); err != nil {
		t.Fatal(err)
	}
	return target
}

// wantEmpty checks that nothing is left: no image, no blob, no half of one, no layer, in the records and on the disk.
func wantEmpty(t *testing.T, s *Service) {
	t.Helper()
	if err := s.garbage.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx := inNamespace(t.Context())
	if all, err := s.images.List(ctx); err != nil || len(all) > 0 {
		t.Errorf("images are left: %v (%v)", all, err)
	}
	if all, err := s.content.ListStatuses(ctx, ""); err != nil || len(all) > 0 {
		t.Errorf("half blobs are left: %v (%v)", all, err)
	}
	if all, err := s.leases.List(ctx); err != nil || len(all) > 0 {
		t.Errorf("leases are left: %v (%v)", all, err)
	}
	for _, dir := range []string{"content/blobs/sha256", "content/ingest", "snapshots/snapshots", "mounts"} {
		entries, err := os.ReadDir(filepath.Join(s.cfg.Root, dir))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if len(entries) > 0 {
			t.Errorf("%s is not empty: %v", dir, entries)
		}
	}
}

// tree lists what is in a folder, leaving out what every container is given.
func tree(t *testing.T, root string) string {
	t.Helper()
	given := []string{".", ".dockerenv", "dev", "etc", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf", "proc", "sys"}
	var names []string
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(root, path); !slices.Contains(given, rel) {
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func emptyConfig() (c dockerspec.DockerOCIImage) { return c }
