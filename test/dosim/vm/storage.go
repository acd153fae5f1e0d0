//go:build linux

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/getberth/berth/test/dosim"
)

var _ dosim.Storage = (*Cloud)(nil)

func (c *Cloud) snapshot(id int) string {
	return filepath.Join(c.dir, "snapshot-"+strconv.Itoa(id)+".qcow2")
}

func (c *Cloud) volume(id string) string { return filepath.Join(c.dir, "volume-"+id+".raw") }

// Snapshot copies a droplet's overlay. One that is on stands still meanwhile: QEMU writes out what it holds when it stops it, so
// that the copy is what a disk is after a power cut.
func (c *Cloud) Snapshot(ctx context.Context, id, snapshot int) (err error) {
	m, err := c.machine(id, false)
	if err != nil {
		return err
	}
	m.busy.Lock()
	defer m.busy.Unlock()
	if r := m.running(); r != nil {
		if err := r.monitor.Run(ctx, "stop", nil, nil); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.monitor.Run(ctx, "cont", nil, nil)) }()
	}
	return copyFile(filepath.Join(c.folder(id), "disk.qcow2"), c.snapshot(snapshot))
}

// DropSnapshot removes a copy.
func (c *Cloud) DropSnapshot(snapshot int) error { return os.Remove(c.snapshot(snapshot)) }

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// Attach plugs a volume into a droplet that is on.
func (c *Cloud) Attach(ctx context.Context, id int, v dosim.Volume) error {
	r, err := c.on(id)
	if err != nil {
		return err
	}
	return c.plug(ctx, r, v)
}

// plug has the guest see a volume as it would at DigitalOcean, where udev calls it /dev/disk/by-id/scsi-0DO_Volume_NAME.
func (c *Cloud) plug(ctx context.Context, r *running, v dosim.Volume) error {
	if err := c.makeVolume(ctx, v); err != nil {
		return fmt.Errorf("volume %s: %w", v.Name, err)
	}
	node := map[string]any{"driver": "raw", "node-name": nodeName(v.ID), "discard": "unmap", "file": map[string]any{"driver": "file", "filename": c.volume(v.ID)}}
	if err := r.monitor.Run(ctx, "blockdev-add", node, nil); err != nil {
		return fmt.Errorf("volume %s: %w", v.Name, err)
	}
	device := map[string]any{"driver": "scsi-hd", "bus": "volumes.0", "id": "dev-" + nodeName(v.ID), "drive": nodeName(v.ID),
		"vendor": "DO", "product": "Volume", "serial": v.Name, "device_id": v.Name}
	if err := r.monitor.Run(ctx, "device_add", device, nil); err != nil {
		return errors.Join(fmt.Errorf("volume %s: %w", v.Name, err), r.monitor.Run(ctx, "blockdev-del", map[string]any{"node-name": nodeName(v.ID)}, nil))
	}
	return nil
}

// nodeName is what QEMU calls a volume. Its names have at most 31 characters, and begin with a letter.
func nodeName(id string) string {
	return "v" + strings.ReplaceAll(id, "-", "")[:min(30, len(strings.ReplaceAll(id, "-", "")))]
}

func (c *Cloud) makeVolume(ctx context.Context, v dosim.Volume) error {
	path := c.volume(v.ID)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(path, int64(v.Size)<<30); err != nil {
		return err
	}
	var args []string
	switch v.Filesystem {
	case "":
		return nil
	case "ext4":
		args = []string{"mke2fs", "-q", "-F", "-t", "ext4", "-L", v.Label, path}
	default:
		args = []string{"mkfs." + v.Filesystem, "-q", "-f", "-L", v.Label, path}
	}
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("%s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Detach unplugs a volume. QEMU lets go of it only when the guest has.
func (c *Cloud) Detach(ctx context.Context, id int, volume string) error {
	r, err := c.on(id)
	if err != nil {
		return err
	}
	if err := r.monitor.Run(ctx, "device_del", map[string]any{"id": "dev-" + nodeName(volume)}, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := r.monitor.Run(ctx, "blockdev-del", map[string]any{"node-name": nodeName(volume)}, nil)
		if err == nil {
			return nil
		}
		// The monitor's event would say when; one client with two dozen lines less asks again.
		select {
		case <-time.After(100 * time.Millisecond):
		case <-r.off:
			return nil
		case <-ctx.Done():
			return err
		}
	}
}

// Grow makes a volume larger, and tells the guest that has it.
func (c *Cloud) Grow(ctx context.Context, id int, v dosim.Volume) error {
	if _, err := os.Stat(c.volume(v.ID)); err != nil {
		return nil // it is made when it is attached first
	}
	size := int64(v.Size) << 30
	if id == 0 {
		return os.Truncate(c.volume(v.ID), size)
	}
	r, err := c.on(id)
	if err != nil {
		return err
	}
	return r.monitor.Run(ctx, "block_resize", map[string]any{"node-name": nodeName(v.ID), "size": size}, nil)
}

// DropVolume removes a volume's data, if it has ever been attached.
func (c *Cloud) DropVolume(volume string) error {
	if err := os.Remove(c.volume(volume)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
