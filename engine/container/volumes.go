//go:build linux

package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/continuity/fs"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/volume"

	"github.com/getberth/berth/engine/container/mountspec"
)

// furnishVolumes makes the volumes of a container, takes references to them and fills the empty ones from the image.
func (s *Service) furnishVolumes(ctx context.Context, c *instance) error {
	spec, _ := c.view()
	points := slices.Clone(spec.Mounts)
	var fill []int
	for i := range points {
		if points[i].Type != mount.TypeVolume {
			continue
		}
		if err := s.makeVolume(ctx, &points[i], spec.ID); err != nil {
			c.setSpec(func(sp *Spec) { sp.Mounts = points }) // so that those made are given back
			return err
		}
		if !points[i].NoCopy && (points[i].Subpath != "" || emptyDir(points[i].Source)) {
			fill = append(fill, i)
		}
	}
	spec = c.setSpec(func(sp *Spec) { sp.Mounts = points })
	if err := s.store.saveSpec(spec); err != nil {
		return err
	}
	if len(fill) == 0 {
		return nil
	}
	return s.withRootFS(ctx, spec.ID, func(root string) error {
		for _, i := range fill {
			if err := copyUp(root, points[i]); err != nil {
				return fmt.Errorf("filling volume %s from the image's %s: %w", points[i].Name, points[i].Destination, err)
			}
		}
		return nil
	})
}

func (s *Service) makeVolume(ctx context.Context, p *mountspec.Point, id string) error {
	v, err := s.deps.Volumes.Create(ctx, volume.CreateRequest{Name: p.Name, Driver: p.Driver, Labels: p.Labels, DriverOpts: p.DriverOpts})
	if err != nil {
		return err
	}
	p.Name, p.Driver = v.Name, v.Driver
	p.Source, err = s.deps.Volumes.Use(ctx, v.Name, id)
	return err
}

func emptyDir(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// copyUp copies what the image has at the volume's place, with owners and modes. The container does not run, so nobody can
// swap the path under it.
func copyUp(root string, p mountspec.Point) error {
	part, err := openPart(p.Source, p)
	if err != nil {
		return nil // the start will say so
	}
	defer part.Close()
	target := fmt.Sprintf("/proc/self/fd/%d/", part.Fd())
	if !emptyDir(target) {
		return nil
	}
	source, err := fs.RootPath(root, p.Destination)
	if err != nil {
		return err
	}
	info, err := os.Lstat(source)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil || !info.IsDir() {
		return err
	}
	return fs.CopyDir(target, source)
}

// withRootFS mounts a container's root filesystem for the time of f. The caller holds the container's lock, or is its maker.
func (s *Service) withRootFS(ctx context.Context, id string, f func(root string) error) error {
	root, err := s.mountRootFS(ctx, id)
	if err != nil {
		return err
	}
	return errors.Join(f(root), s.unmountRootFS(ctx, id))
}

func (s *Service) mountRootFS(ctx context.Context, id string) (string, error) {
	root := s.rootfs(id)
	if err := os.MkdirAll(root, 0o711); err != nil {
		return "", fmt.Errorf("making the mount point of the root filesystem: %w", err)
	}
	if err := s.deps.Images.MountRootFS(ctx, id, root); err != nil {
		os.Remove(root)
		return "", fmt.Errorf("mounting the root filesystem: %w", err)
	}
	return root, nil
}

func (s *Service) unmountRootFS(ctx context.Context, id string) error {
	root := s.rootfs(id)
	if err := s.deps.Images.UnmountRootFS(ctx, root); err != nil {
		return fmt.Errorf("unmounting the root filesystem: %w", err)
	}
	if err := os.Remove(root); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the mount point of the root filesystem: %w", err)
	}
	return nil
}

// releaseVolumes gives back the references, and removes the anonymous volumes if remove is set.
func (s *Service) releaseVolumes(ctx context.Context, spec *Spec, remove bool) {
	for _, p := range spec.Mounts {
		if p.Type != mount.TypeVolume || p.Name == "" {
			continue
		}
		err := s.deps.Volumes.Release(ctx, p.Name, spec.ID)
		if remove && p.Anonymous && err == nil {
			err = s.deps.Volumes.Remove(ctx, p.Name, true)
		}
		if err != nil {
			s.log.Warn("giving back a volume", "container", spec.ID, "volume", filepath.Base(p.Name), "error", err)
		}
	}
}
