//go:build linux

package pid1

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// portsDir is where udev would link the virtio-serial ports by their names.
const portsDir = "/dev/virtio-ports"

// portPatience bounds the wait for a port that the host may not offer.
const portPatience = 3 * time.Second

// openPort waits for a virtio-serial port and opens it by its name.
func openPort(ctx context.Context, h *hotplug, name string) (*os.File, error) {
	if err := waitPort(ctx, h, name); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(portsDir, name), os.O_RDWR, 0)
}

// waitPort returns once the port is linked in portsDir.
func waitPort(ctx context.Context, h *hotplug, name string) error {
	ctx, cancel := context.WithTimeout(ctx, portPatience)
	defer cancel()
	err := h.wait(ctx, func() bool { return linkPorts() == nil && exists(filepath.Join(portsDir, name)) })
	if err != nil {
		return fmt.Errorf("waiting for port %s: %w", name, err)
	}
	return nil
}

// linkPorts links all ports that there are.
func linkPorts() error {
	if err := os.MkdirAll(portsDir, 0o755); err != nil {
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
		link := filepath.Join(portsDir, filepath.Base(strings.TrimSpace(string(b))))
		device := filepath.Join("/dev", filepath.Base(filepath.Dir(n)))
		if err := os.Symlink(device, link); err != nil && !os.IsExist(err) {
			return fmt.Errorf("linking %s: %w", link, err)
		}
	}
	return nil
}
