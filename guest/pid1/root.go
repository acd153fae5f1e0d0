//go:build linux

package pid1

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/guest/blockdev"
	"github.com/getberth/berth/guest/kmod"
	"github.com/getberth/berth/guest/seed"
)

// newRoot is where the root is mounted before it becomes one.
const newRoot = "/root"

// enterRoot leaves the initial RAM disk for the root on disk. The process goes on: to start another one takes an emulated processor
// a fifth of a second.
func enterRoot() error {
	for _, m := range []struct{ fs, dir string }{{"devtmpfs", "/dev"}, {"sysfs", "/sys"}, {"proc", "/proc"}} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fs, m.dir, m.fs, unix.MS_NOSUID, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m.dir, err)
		}
	}
	modules, err := kmod.List("/modules/order")
	if err != nil {
		return err
	}
	if err := kmod.Load(modules); err != nil {
		return err
	}
	dev, err := blockdev.Find(seed.RootDisk)
	if err != nil {
		return err
	}
	readAhead(dev)
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(dev, newRoot, "erofs", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mounting root %s: %w", dev, err)
	}
	return switchRoot()
}

// readAhead has more of the root read at once than the kernel's 128 KiB: programs are started from it, whose pages come in all over
// the place, and each request costs more than what it reads. A kernel that refuses works, slower.
func readAhead(dev string) {
	_ = os.WriteFile("/sys/block/"+dev[len("/dev/"):]+"/queue/read_ahead_kb", []byte("512"), 0)
}

// switchRoot moves the mounts over and makes the mounted root this process's own; pivot_root does not work on a RAM disk. What
// that holds but this program is given back.
func switchRoot() error {
	if err := os.RemoveAll("/modules"); err != nil {
		return err
	}
	for _, dir := range []string{"/dev", "/sys", "/proc"} {
		if err := unix.Mount(dir, newRoot+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving %s: %w", dir, err)
		}
	}
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return os.Chdir("/")
}
