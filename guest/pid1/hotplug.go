//go:build linux

package pid1

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// hotplug tells when the kernel has added a device. Modules announce theirs some time after they have been loaded, and a light VM
// has no udev to ask.
type hotplug struct {
	mu      sync.Mutex // guards changed
	changed chan struct{}
}

// kernelGroup is the multicast group of the kernel's own device events. Source: linux/lib/kobject_uevent.c.
const kernelGroup = 1

// watchDevices starts to listen; what is added from now on is not missed.
func watchDevices() (*hotplug, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listening for devices: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listening for devices: %w", err)
	}
	h := &hotplug{changed: make(chan struct{})}
	go h.listen(fd)
	return h, nil
}

// listen wakes the waiters at each event; it does not matter which, since each looks for itself. ENOBUFS means that events were
// lost, which is an event too.
func (h *hotplug) listen(fd int) {
	b := make([]byte, 16<<10)
	for {
		if _, _, err := unix.Recvfrom(fd, b, 0); err != nil && err != unix.ENOBUFS && err != unix.EINTR {
			return
		}
		h.mu.Lock()
		close(h.changed)
		h.changed = make(chan struct{})
		h.mu.Unlock()
	}
}

// wait returns once found reports true, or with the context's error.
func (h *hotplug) wait(ctx context.Context, found func() bool) error {
	for {
		h.mu.Lock()
		changed := h.changed
		h.mu.Unlock()
		if found() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
