// Package initramfs writes initial RAM disks.
package initramfs

import (
	"os"

	"github.com/u-root/u-root/pkg/cpio"
)

// Write makes a file of the records, in their order.
func Write(path string, records []cpio.Record) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := cpio.Newc.Writer(f)
	if err := cpio.WriteRecords(w, records); err != nil {
		return err
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return err
	}
	return f.Close()
}
