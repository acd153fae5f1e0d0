//go:build linux

package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// initLayer puts a layer between the image and its containers that has what every container is given: files to mount over, and
// the one by which programs know that they are in a container. So these are none of a container's changes, as with Docker.
// It is made once for an image; mu is held.
func (r *overlayRoots) initLayer(ctx context.Context, m *manifest) error {
	key := initKey(m.desc.Digest)
	if _, err := r.layers.Stat(ctx, key); !errdefs.IsNotFound(err) {
		return err
	}
	making := key + ".new"
	if err := r.layers.Remove(ctx, making); err != nil && !errdefs.IsNotFound(err) { // of a crash
		return err
	}
	mounts, err := r.layers.Prepare(ctx, making, m.top(), baseLabels(m))
	if err != nil {
		return err
	}
	if err := r.withMount(mounts, addMountPoints); err != nil {
		return errors.Join(fmt.Errorf("making mount points: %w", err), r.layers.Remove(context.WithoutCancel(ctx), making))
	}
	return r.layers.Commit(ctx, key, making, baseLabels(m))
}

// addMountPoints makes what an image lacks. Where the image has something in the way, e.g. a link that leads out of it, the
// image is left as it is.
func addMountPoints(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range []string{"dev", "proc", "sys", "etc"} {
		if _, err := root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			if err := root.Mkdir(name, 0o755); err != nil {
				return fmt.Errorf("making /%s: %w", name, err)
			}
		}
	}
	for _, name := range []string{".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf"} {
		if err := addFile(root, name); err != nil {
			return fmt.Errorf("making /%s: %w", name, err)
		}
	}
	if _, err := root.Lstat("etc/mtab"); errors.Is(err, fs.ErrNotExist) {
		_ = root.Symlink("/proc/mounts", "etc/mtab") // a convenience
	}
	return nil
}

func addFile(root *os.Root, name string) error {
	if _, err := root.Stat(filepath.Dir(name)); err != nil {
		return nil
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}
