package debian

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"
)

func TestInitrdHasWhatBoots(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for _, name := range []string{"busybox", "virtio.ko"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "initrd")
	if err := writeInitrd(out, dir); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(f))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range records {
		if parent := filepath.Dir(r.Name); parent != "." && !seen[parent] {
			t.Errorf("%s comes before its folder", r.Name)
		}
		seen[r.Name] = true
	}
	for _, name := range []string{"init", "bin/busybox", "modules/virtio.ko", "dev/console", "root"} {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestKeyIsStable(t *testing.T) {
	a, err := recipeKey()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := recipeKey(); err != nil || a != b || len(a) != 12 {
		t.Errorf("keys %q and %q, %v", a, b, err)
	}
}

func TestImagesInUseStay(t *testing.T) {
	cache := t.TempDir()
	files := func(name string) Files {
		dir := filepath.Join(cache, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		f := Files{Kernel: filepath.Join(dir, "vmlinuz")}
		if err := os.WriteFile(f.Kernel, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return f
	}
	used, old, now := files("debian-used"), files("debian-old"), files("debian-now")
	release, err := used.Hold()
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{"debian-now debian-used", "debian-now"} {
		if err := removeOld(cache, filepath.Dir(now.Kernel)); err != nil {
			t.Fatal(err)
		}
		entries, _ := os.ReadDir(cache)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != left {
			t.Errorf("left are %s, want %s", got, left)
		}
		if left == "debian-now debian-used" {
			if err := release(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := os.Stat(old.Kernel); err == nil {
		t.Error("an image that nobody uses stays")
	}
}
