//go:build linux

package container

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/moby/moby/api/types/mount"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/getberth/berth/engine/container/mountspec"
	"github.com/getberth/berth/engine/container/rootfs"
)

// imageKey is the key of the image that is a container's i-th mount.
func imageKey(id string, i int) string { return fmt.Sprintf("%s-image%d", id, i) }

// resolveImages puts the ids of images that are to be mounted into the points, and fails for those that are not there.
func (s *Service) resolveImages(ctx context.Context, points []mountspec.Point, platform *ocispec.Platform) error {
	for i := range points {
		if points[i].Type != mount.TypeImage {
			continue
		}
		id, _, err := s.deps.Images.Config(ctx, points[i].Name, platform)
		if err != nil {
			return err
		}
		points[i].Source = id
	}
	return nil
}

func (s *Service) furnishImages(ctx context.Context, spec *Spec) error {
	for i, p := range spec.Mounts {
		if p.Type != mount.TypeImage {
			continue
		}
		if _, err := s.deps.Images.PrepareView(ctx, imageKey(spec.ID, i), p.Source, spec.Platform); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) removeImageMounts(ctx context.Context, spec *Spec) error {
	var errs []error
	for i, p := range spec.Mounts {
		if p.Type == mount.TypeImage {
			errs = append(errs, s.deps.Images.RemoveView(ctx, imageKey(spec.ID, i)))
		}
	}
	return errors.Join(errs...)
}

// imageSource mounts an image beside the root filesystem and returns the folder or file to bind.
func (s *Service) imageSource(ctx context.Context, spec *Spec, i int) (string, error) {
	p := spec.Mounts[i]
	dir := fmt.Sprintf("%s.%d", s.rootfs(spec.ID), i)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := s.deps.Images.MountView(ctx, imageKey(spec.ID, i), dir); err != nil {
		return "", err
	}
	if p.Subpath == "" {
		return dir, nil
	}
	part, err := rootfs.OpenBeneath(dir, p.Subpath)
	if err != nil {
		return "", invalid("cannot access path %s of image %s: %v", p.Subpath, p.Name, err)
	}
	defer part.Close()
	target := dir + ".part"
	return target, bindDescriptor(part, target)
}
