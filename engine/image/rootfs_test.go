//go:build linux

package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/getberth/berth/test/images"
)

// drivers runs a test with each snapshotter, in a store that has the image base:v1.
func drivers(t *testing.T, test func(*testing.T, *Service)) {
	img, err := images.Build(v1.Config{Cmd: []string{"/old"}}, images.Layer{CreatedBy: "COPY . /", Files: []images.File{
		{Name: "etc/"}, {Name: "etc/old", Body: "old"}, {Name: "etc/gone"}, {Name: "dir/"}, {Name: "dir/inner"}, {Name: "untouched"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, driver := range []string{Overlay, Native} {
		t.Run(driver, func(t *testing.T) {
			s := open(t, func(c *Config) { c.StorageDriver = driver })
			load(t, s, "base:v1", img)
			test(t, s)
		})
	}
}

// netRaw is the file capability of a ping, as setcap(8) writes it.
const netRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// change does to a root filesystem what a container would.
func change(t *testing.T, root string) {
	t.Helper()
	for _, err := range []error{
		os.WriteFile(filepath.Join(root, "etc/old"), []byte("new"), 0o600),
		os.WriteFile(filepath.Join(root, "etc/added"), []byte("added"), 0o644),
		os.Remove(filepath.Join(root, "etc/gone")),
		os.RemoveAll(filepath.Join(root, "dir")),
		os.Mkdir(filepath.Join(root, "made"), 0o755),
		os.Symlink("old", filepath.Join(root, "etc/link")),
		unix.Mkfifo(filepath.Join(root, "fifo"), 0o600),
		unix.Mknod(filepath.Join(root, "sock"), unix.S_IFSOCK|0o600, 0),
		os.Chown(filepath.Join(root, "etc/added"), 12, 34),
		unix.Setxattr(filepath.Join(root, "etc/added"), "security.capability", []byte(netRaw), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestChangesAndCommit(t *testing.T) {
	drivers(t, func(t *testing.T, s *Service) {
		change(t, mounted(t, s, "c1", "base:v1"))
		list, err := s.RootFSChanges(t.Context(), "c1")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range list {
			got = append(got, c.Kind.String()+" "+c.Path)
		}
		for _, want := range []string{"C /etc", "C /etc/old", "A /etc/added", "D /etc/gone", "D /dir", "A /made", "A /etc/link"} {
			if !slices.Contains(got, want) {
				t.Errorf("the changes %q lack %q", got, want)
			}
		}
		for _, given := range []string{"A /.dockerenv", "A /dev", "A /etc/hosts"} {
			if slices.Contains(got, given) {
				t.Errorf("the changes %q have %q, which is the engine's", got, given)
			}
		}
		if slices.Contains(got, "A /untouched") || slices.Contains(got, "C /untouched") {
			t.Errorf("the changes %q have what was not changed", got)
		}

		config := dockerspec.DockerOCIImage{}
		config.Config.Cmd = []string{"/new"}
		config.History = []ocispec.History{{CreatedBy: "/old", Comment: "why"}}
		id, err := s.CommitRootFS(t.Context(), "c1", "made:v2", config)
		if err != nil {
			t.Fatal(err)
		}
		checkCommitted(t, s, id)
	})
}

// TestMountPoints checks that what the engine adds to an image never leaves it.
func TestMountPoints(t *testing.T) {
	outside := t.TempDir()
	img, err := images.Build(v1.Config{}, images.Layer{Files: []images.File{{Name: "etc", Link: outside}, {Name: "proc", Body: "a file"}}})
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, nil)
	load(t, s, "odd:v1", img)
	root := mounted(t, s, "c1", "odd:v1")
	if _, err := os.Stat(filepath.Join(root, ".dockerenv")); err != nil {
		t.Error(err)
	}
	if got := tree(t, outside); got != "" {
		t.Errorf("in a folder of the host there is now %q", got)
	}
	if raw, err := os.ReadFile(filepath.Join(root, "proc")); err != nil || string(raw) != "a file" {
		t.Errorf("what the image has was replaced: %q, %v", raw, err)
	}
}

// TestRenamedFolderIsCommitted moves a folder of the image, as mv(1) does.
func TestRenamedFolderIsCommitted(t *testing.T) {
	drivers(t, func(t *testing.T, s *Service) {
		root := mounted(t, s, "c1", "base:v1")
		if err := os.Rename(filepath.Join(root, "dir"), filepath.Join(root, "moved")); err != nil {
			if !errors.Is(err, unix.EXDEV) {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(root, "moved"), os.DirFS(filepath.Join(root, "dir"))); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(root, "dir")); err != nil {
				t.Fatal(err)
			}
		}
		id, err := s.CommitRootFS(t.Context(), "c1", "", emptyConfig())
		if err != nil {
			t.Fatal(err)
		}
		if got := tree(t, mounted(t, s, "c2", id)); got != "etc/gone etc/old moved moved/inner untouched" {
			t.Errorf("the committed image has %q", got)
		}
	})
}

func checkCommitted(t *testing.T, s *Service, id string) {
	t.Helper()
	gotID, config, err := s.Config(t.Context(), "made:v2", nil)
	if err != nil || gotID != id || !slices.Equal(config.Config.Cmd, []string{"/new"}) {
		t.Errorf("made:v2 is %s with Cmd %q (%v), want %s with /new", gotID, config.Config.Cmd, err, id)
	}
	history, err := s.History(t.Context(), "made:v2", nil)
	if err != nil || len(history) != 2 || history[0].Comment != "why" || history[0].ID != id || history[1].CreatedBy != "COPY . /" {
		t.Errorf("history %+v, %v", history, err)
	}
	root := mounted(t, s, "c2", id)
	if got := tree(t, root); got != "etc/added etc/link etc/old fifo made untouched" {
		t.Errorf("the committed image has %q", got)
	}
	if raw, err := os.ReadFile(filepath.Join(root, "etc/old")); err != nil || string(raw) != "new" {
		t.Errorf("etc/old is %q (%v), want new", raw, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(root, "etc/added"), &st); err != nil || st.Uid != 12 || st.Gid != 34 {
		t.Errorf("etc/added belongs to %d:%d (%v), want 12:34", st.Uid, st.Gid, err)
	}
	got := make([]byte, 100)
	if n, err := unix.Getxattr(filepath.Join(root, "etc/added"), "security.capability", got); err != nil || string(got[:max(n, 0)]) != netRaw {
		t.Errorf("the capability is %q (%v), want %q", got, err, netRaw)
	}
}

func TestRootFSLife(t *testing.T) {
	drivers(t, func(t *testing.T, s *Service) {
		root := mounted(t, s, "c1", "base:v1")
		if err := s.MountRootFS(t.Context(), "c1", root); err != nil {
			t.Errorf("mounting what is mounted: %v", err)
		}
		if err := s.PrepareRootFS(t.Context(), "c1", "base:v1", nil); !errdefs.IsAlreadyExists(err) {
			t.Errorf("preparing again: %v, want already exists", err)
		}
		if err := os.WriteFile(filepath.Join(root, "data"), make([]byte, 100<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		rw, total, err := s.RootFSSize(t.Context(), "c1")
		if err != nil || rw < 100<<10 || total < rw {
			t.Errorf("sizes %d, %d (%v), want at least 100 KiB each", rw, total, err)
		}
		for range 2 {
			if err := s.UnmountRootFS(t.Context(), root); err != nil {
				t.Errorf("unmounting: %v", err)
			}
		}
		if err := s.MountRootFS(t.Context(), "c1", root); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(root, "data")); err != nil {
			t.Errorf("what was written is gone after a new mount: %v", err)
		}
		if err := s.UnmountRootFS(t.Context(), root); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.RemoveRootFS(t.Context(), "c1"); err != nil {
				t.Errorf("removing: %v", err)
			}
		}
		if err := s.MountRootFS(t.Context(), "c1", root); !errdefs.IsNotFound(err) {
			t.Errorf("mounting what was removed: %v, want not found", err)
		}
		if _, _, err := s.RootFSSize(t.Context(), "c1"); !errdefs.IsNotFound(err) {
			t.Errorf("measuring what was removed: %v, want not found", err)
		}
	})
}

func TestRestartFindsEverything(t *testing.T) {
	for _, driver := range []string{Overlay, Native} {
		t.Run(driver, func(t *testing.T) {
			root := t.TempDir()
			set := func(c *Config) { c.StorageDriver = driver }
			s := openAt(t, root, set)
			load(t, s, "hello:v1", small(t))
			mnt := mounted(t, s, "c1", "hello:v1")
			if err := os.WriteFile(filepath.Join(mnt, "data"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(mnt, "data")); err != nil {
				t.Errorf("the container's root filesystem went with the engine: %v", err)
			}

			again := openAt(t, root, set)
			if err := again.garbage.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := again.UnmountRootFS(t.Context(), mnt); err != nil {
				t.Fatal(err)
			}
			if err := again.MountRootFS(t.Context(), "c1", mnt); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"data", "hello"} {
				if _, err := os.Stat(filepath.Join(mnt, name)); err != nil {
					t.Error(err)
				}
			}
			if _, err := again.Inspect(t.Context(), "hello:v1", nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCrashedPrepareIsCleanedUp(t *testing.T) {
	root := t.TempDir()
	s := openAt(t, root, nil)
	load(t, s, "hello:v1", small(t))
	half := filepath.Join(root, "containers", "half")
	for _, dir := range []string{half, filepath.Join(half, "fs"), filepath.Join(root, "containers", ".trash-1")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(half, "layer.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := openAt(t, root, nil)
	if err := again.Close(); err != nil { // waits for deletions
		t.Fatal(err)
	}
	if left := tree(t, filepath.Join(root, "containers")); left != "" {
		t.Errorf("left is %q", left)
	}
}

func TestImageWithoutLayers(t *testing.T) {
	img, err := images.Build(v1.Config{Cmd: []string{"/x"}})
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, nil)
	load(t, s, "empty:v1", img)
	root := mounted(t, s, "c1", "empty:v1")
	if err := os.WriteFile(filepath.Join(root, "f"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if list, err := s.RootFSChanges(t.Context(), "c1"); err != nil || len(list) != 1 || list[0].Kind != container.ChangeAdd {
		t.Errorf("changes %v, %v", list, err)
	}
}

func TestManyContainersAtOnce(t *testing.T) {
	s := open(t, nil)
	load(t, s, "hello:v1", small(t))
	var all sync.WaitGroup
	for i := range 20 {
		key := fmt.Sprint("c", i)
		target := filepath.Join(t.TempDir(), "rootfs")
		if err := os.Mkdir(target, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.UnmountRootFS(context.Background(), target) })
		all.Go(func() {
			for _, err := range []error{
				s.PrepareRootFS(t.Context(), key, "hello:v1", nil), s.MountRootFS(t.Context(), key, target),
				os.WriteFile(filepath.Join(target, "mine"), []byte(key), 0o600),
				s.UnmountRootFS(t.Context(), target), s.RemoveRootFS(t.Context(), key),
			} {
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func TestContainersWithBadNames(t *testing.T) {
	s := open(t, nil)
	load(t, s, "hello:v1", small(t))
	for _, key := range []string{"", ".", "..", "../x", "a/b", ".trash-1", strings.Repeat("a", 200)} {
		if err := s.PrepareRootFS(t.Context(), key, "hello:v1", nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("PrepareRootFS(%q): %v, want invalid", key, err)
		}
		if err := s.RemoveRootFS(t.Context(), key); err != nil {
			t.Errorf("RemoveRootFS(%q): %v", key, err)
		}
	}
}
