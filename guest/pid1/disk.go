//go:build linux

package pid1

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/engine/config/serverkey"
	"github.com/getberth/berth/guest/blockdev"
	"github.com/getberth/berth/guest/seed"
)

const dataDir = "/var"

// prepareData makes the file system on the data disk if the disk is empty, mounts it, grows it to the disk's size and lays out
// the folders that the rest of the guest expects.
func prepareData(ctx context.Context, log *slog.Logger, c *children, s seed.Seed) error {
	dev, err := blockdev.Find(seed.DataDisk)
	if err != nil {
		return err
	}
	content, err := probe(dev)
	if err != nil {
		return err
	}
	switch content {
	case empty:
		log.Info("formatting the data disk", "device", dev)
		// Inode tables and journal are written lazily: a new disk reads as zeros anyway.
		if err := c.run(ctx, "/bin/mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", "berth-data", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", dev); err != nil {
			return err
		}
	case foreign:
		return fmt.Errorf("data disk %s: holds something that is not ext4, and berth does not overwrite what it did not write", dev)
	}
	if err := mountData(ctx, log, c, dev); err != nil {
		return err
	}
	if err := grow(dev, dataDir); err != nil {
		log.Warn("growing the data disk", "error", err)
	}
	if err := layOut(s); err != nil {
		return err
	}
	if err := requestCertificate(); err != nil {
		log.Warn("no signing request; provisioning has one made", "error", err)
	}
	return nil
}

// requestCertificate makes the engine's key and a signing request at first boot, so that provisioning finds it: starting the
// engine's program for that takes an emulated processor a second.
func requestCertificate() error {
	if exists(config.ServerCert) {
		return nil
	}
	key, err := serverkey.Load(config.ServerKey)
	if err != nil {
		return err
	}
	request, err := serverkey.Request(key)
	if err != nil {
		return err
	}
	return writeFile(config.ServerCSR, request, 0o644)
}

// mountData mounts the disk; one that the kernel refuses is checked once and tried again.
func mountData(ctx context.Context, log *slog.Logger, c *children, dev string) error {
	mount := func() error { return unix.Mount(dev, dataDir, "ext4", unix.MS_NOATIME, "") }
	err := mount()
	if err == nil {
		return nil
	}
	log.Warn("data disk does not mount, checking it", "error", err)
	var status *exec.ExitError
	// Exit status 1: errors were corrected. Source: e2fsck(8).
	if err := c.run(ctx, "/bin/e2fsck", "-p", dev); err != nil && (!errors.As(err, &status) || status.ExitCode() > 1) {
		return fmt.Errorf("data disk %s: %w", dev, err)
	}
	if err := mount(); err != nil {
		return fmt.Errorf("mounting data disk %s: %w", dev, err)
	}
	return nil
}

// content is what a disk holds.
type content int

const (
	empty content = iota
	ext4
	foreign
)

// probeSize covers partition tables and the first superblocks of all common file systems.
const probeSize = 1 << 20

func probe(dev string) (content, error) {
	f, err := os.Open(dev)
	if err != nil {
		return empty, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, probeSize))
	if err != nil {
		return empty, fmt.Errorf("reading %s: %w", dev, err)
	}
	return contentOf(b), nil
}

// contentOf looks for ext4's magic number, which is at offset 56 of the superblock at 1024.
// Source: linux/Documentation/filesystems/ext4/super.rst.
func contentOf(b []byte) content {
	if len(b) >= 1024+58 && binary.LittleEndian.Uint16(b[1024+56:]) == 0xEF53 {
		return ext4
	}
	if len(bytes.Trim(b, "\x00")) == 0 {
		return empty
	}
	return foreign
}

// ioctls without a name in x/sys/unix. Source: linux/fs/ext4/ext4.h, EXT4_IOC_RESIZE_FS = _IOW('f', 16, __u64).
const ext4ResizeFS = 0x40086610

// grow makes the file system as large as its disk; one that is that large already stays as it is.
func grow(dev, dir string) error {
	d, err := os.Open(dev)
	if err != nil {
		return err
	}
	defer d.Close()
	size, err := d.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	blocks := uint64(size) / uint64(st.Bsize)
	// statfs leaves out the metadata, at most a few percent: less than a tenth of growth is not worth the journal traffic at each boot.
	if blocks <= st.Blocks+st.Blocks/10 {
		return nil
	}
	m, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer m.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, m.Fd(), ext4ResizeFS, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return fmt.Errorf("resizing the file system on %s to %d blocks: %w", dev, blocks, errno)
	}
	return nil
}

// layOut makes the folders to which links of the read-only root lead, and the engine's first configuration.
func layOut(s seed.Seed) error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		{"/var/lib", 0o755}, {"/var/log", 0o755}, {"/var/tmp", 0o1777}, {"/var/etc/berth", 0o755}, {"/var/usr-local-bin", 0o755},
		{"/var/root", 0o700}, {config.TLSDir, 0o700}, {config.DataRoot, 0o710},
	} {
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return err
		}
	}
	if err := os.Symlink("/run", "/var/run"); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := unix.Mount("/var/root", "/root", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting /root: %w", err)
	}
	if _, err := os.Stat(config.File); err == nil || len(s.EngineConfig) == 0 {
		return nil
	}
	return writeFile(config.File, s.EngineConfig, 0o644)
}

// writeFile replaces a file so that a power cut leaves the old one or the new one.
func writeFile(path string, content []byte, mode os.FileMode) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
