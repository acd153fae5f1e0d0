//go:build linux

package image

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestViewsOfImages(t *testing.T) {
	drivers(t, func(t *testing.T, s *Service) {
		id, err := s.PrepareView(t.Context(), "c1.0", "base:v1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.PrepareView(t.Context(), "c1.0", "base:v1", nil); !errdefs.IsAlreadyExists(err) {
			t.Errorf("twice: error %v", err)
		}
		if _, err := s.Remove(t.Context(), id, RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		target := t.TempDir()
		for range 2 { // the second changes nothing
			if err := s.MountView(t.Context(), "c1.0", target); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { _ = unmountAll(target) })
		if got := tree(t, target); got != "dir dir/inner etc/gone etc/old untouched" {
			t.Errorf("the view shows %q", got)
		}
		if err := os.WriteFile(filepath.Join(target, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("writing into it: error %v", err)
		}
		if err := s.UnmountRootFS(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.RemoveView(t.Context(), "c1.0"); err != nil {
				t.Fatal(err)
			}
		}
		wantEmpty(t, s)
		if err := s.MountView(t.Context(), "c1.0", target); !errdefs.IsNotFound(err) {
			t.Errorf("after it was removed: error %v", err)
		}
	})
}
