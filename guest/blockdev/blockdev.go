//go:build linux

// Package blockdev finds the guest's disks by their serial numbers, since the order in which the kernel names them is not fixed.
package blockdev

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Find returns the device node of the virtio disk with the serial, e.g. /dev/vda. /sys and /dev must be mounted.
func Find(serial string) (string, error) {
	files, err := filepath.Glob("/sys/block/vd*/serial")
	if err != nil {
		return "", err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && strings.TrimSpace(string(b)) == serial {
			return "/dev/" + filepath.Base(filepath.Dir(f)), nil
		}
	}
	return "", fmt.Errorf("finding disk %q: none of the %d virtio disks has this serial number", serial, len(files))
}
