//go:build linux

package debian

import (
	"os"
	"path/filepath"
	"testing"
	"time"

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
	for name, age := range map[string]time.Duration{"debian-used": time.Hour, "debian-old": 2 * unusedFor, "making": 0, "run-1": 2 * unusedFor} {
		dir := filepath.Join(cache, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(dir, then, then); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeOld(cache); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"debian-used": true, "debian-old": false, "making": false, "run-1": true} {
		if _, err := os.Stat(filepath.Join(cache, name)); (err == nil) != want {
			t.Errorf("%s is there: %v", name, err == nil)
		}
	}
}
