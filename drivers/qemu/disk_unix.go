//go:build unix

package qemu

import (
	"os"

	"golang.org/x/sys/unix"
)

// freeSpace returns the bytes that this user may still write in the file system of dir.
func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// setSparse does nothing: files have holes by themselves.
func setSparse(*os.File) error { return nil }
