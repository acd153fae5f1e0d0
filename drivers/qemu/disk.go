package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/docker/go-units"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/guest/seed"
)

// minFree is the room without which a machine is of no use: its file system and a few images.
const minFree = 1 << 30

// checkSpace sees that a machine's folder has room for a start.
func checkSpace(h *drivers.Host, size int64) error {
	free, err := freeSpace(h.Dir)
	if err != nil {
		return fmt.Errorf("asking for the free space in %s: %w", h.Dir, err)
	}
	if free < minFree {
		return fmt.Errorf("not enough disk space in %s: %s are free, at least %s are needed", h.Dir, units.BytesSize(float64(free)), units.BytesSize(minFree))
	}
	if free < size {
		logf(h, "the disk of %s may outgrow the %s that are free in %s", units.BytesSize(float64(size)), units.BytesSize(float64(free)), h.Dir)
	}
	return nil
}

// growDisk makes the machine's disk if there is none, sparse, and grows one that is too small. It never shrinks one.
func growDisk(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("making the disk: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("making the disk: %w", err)
	}
	if fi.Size() >= size {
		return nil
	}
	if err := setSparse(f); err != nil {
		return fmt.Errorf("making the disk %s sparse: %w", path, err)
	}
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("growing the disk to %s: %w", units.BytesSize(float64(size)), err)
	}
	return nil
}

// sector is the unit in which disks are read, in bytes.
const sector = 512

// writeSeed makes the disk from which the guest reads who it is. It holds the host's private key, and so is its owner's alone.
func writeSeed(h *drivers.Host) error {
	path := filepath.Join(h.Dir, seedFile)
	if len(h.Keys.HostPrivate) == 0 {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("machine %q: its seed disk is gone and its host key is not at hand", h.Name)
		}
		return nil
	}
	s := seed.Seed{Version: seed.Version, Hostname: h.Name, HostKey: string(h.Keys.HostPrivate), EngineConfig: h.EngineConfig}
	if h.Keys.ClientPublic != "" {
		s.AuthorizedKeys = []string{h.Keys.ClientPublic}
	}
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("making the seed: %w", err)
	}
	if len(b) > seed.MaxSize {
		return fmt.Errorf("making the seed: it has %d bytes, more than %d", len(b), seed.MaxSize)
	}
	b = append(b, make([]byte, sector-len(b)%sector)...)
	return replaceFile(path, b)
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, b []byte) error {
	tmp := path + ".tmp"
	os.Remove(tmp) // its mode may be another
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}
