//go:build linux

package pid1

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// openPort opens a virtio-serial port by its name. Without udev nobody makes /dev/virtio-ports, so this also links all ports
// there, for the engine.
func openPort(name string) (*os.File, error) {
	if err := linkPorts(); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join("/dev/virtio-ports", name), os.O_RDWR, 0)
}

func linkPorts() error {
	if err := os.MkdirAll("/dev/virtio-ports", 0o755); err != nil {
		return err
	}
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return err
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			return err
		}
		link := filepath.Join("/dev/virtio-ports", filepath.Base(strings.TrimSpace(string(b))))
		device := filepath.Join("/dev", filepath.Base(filepath.Dir(n)))
		if err := os.Symlink(device, link); err != nil && !os.IsExist(err) {
			return fmt.Errorf("linking %s: %w", link, err)
		}
	}
	return nil
}
