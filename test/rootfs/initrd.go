//go:build linux

package rootfs

import (
	"os"
	"path/filepath"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/getberth/berth/guest/initramfs"
)

// WriteInitrd packs a static busybox, the first program, and the modules (*.ko) of a folder. It is not compressed: unpacking takes an
// emulated processor longer than the firmware takes to copy it.
func WriteInitrd(to, busybox string, init []byte, modules string) error {
	records := []cpio.Record{cpio.CharDev("dev/console", 0o600, 5, 1)}
	for _, d := range []string{"root", "bin", "modules", "dev"} {
		records = append([]cpio.Record{cpio.Directory(d, 0o755)}, records...)
	}
	records = append(records, cpio.StaticFile("init", string(init), 0o755))
	files := map[string]string{busybox: "bin/busybox"}
	found, err := filepath.Glob(filepath.Join(modules, "*.ko"))
	if err != nil {
		return err
	}
	for _, m := range found {
		files[m] = "modules/" + filepath.Base(m)
	}
	for from, name := range files {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		records = append(records, cpio.StaticFile(name, string(b), 0o755))
	}
	return initramfs.Write(to, records)
}
