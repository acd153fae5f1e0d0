package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/getberth/berth/guest/initramfs"
	"github.com/getberth/berth/guest/seed"
)

// writeKernel copies the kernel as it is.
func (b *builder) writeKernel() error { return copyFile(b.kernel.image, b.made(seed.Kernel), 0o644) }

// writeInitrd packs init and the modules of the root disk. It is not compressed: unpacking takes an emulated
// processor longer than the firmware takes to copy it.
func (b *builder) writeInitrd() error {
	x, err := readModules(b.kernel.modules)
	if err != nil {
		return err
	}
	records := []cpio.Record{
		cpio.Directory("dev", 0o755),
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.Directory("modules", 0o755),
	}
	program, err := os.ReadFile(b.init)
	if err != nil {
		return err
	}
	records = append(records, cpio.StaticFile("init", string(program), 0o755))
	var order []string
	for _, path := range x.inOrder(initrdModules) {
		content, err := os.ReadFile(filepath.Join(b.kernel.modules, path))
		if err != nil {
			return err
		}
		name := filepath.Base(path)
		records = append(records, cpio.StaticFile("modules/"+name, string(unsigned(content)), 0o644))
		order = append(order, name)
	}
	records = append(records, cpio.StaticFile("modules/order", strings.Join(order, "\n"), 0o644))
	return initramfs.Write(b.made(seed.Initrd), records)
}
