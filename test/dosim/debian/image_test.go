//go:build linux

package debian

import (
	"os"
	"path/filepath"
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
