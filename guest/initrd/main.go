//go:build linux

// Command initrd is the first program of the light VM: it loads the modules of the root disk, mounts it and gives way to the
// init in it. It lives in the initial RAM disk and is kept small, because the firmware copies it byte by byte.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/guest/blockdev"
	"github.com/getberth/berth/guest/kmod"
	"github.com/getberth/berth/guest/seed"
)

const newRoot = "/root"

func main() {
	if err := boot(); err != nil {
		fmt.Fprintln(os.Stderr, "berth initrd:", err)
		unix.Sync()
		// The host sees the console's last lines and a machine that is off.
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
}

func boot() error {
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
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(dev, newRoot, "erofs", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mounting root %s: %w", dev, err)
	}
	return switchRoot()
}

// switchRoot moves the mounts over and becomes the real init; pivot_root does not work on a RAM disk.
func switchRoot() error {
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
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return unix.Exec("/sbin/init", []string{"init"}, []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/root", "TERM=linux"})
}
