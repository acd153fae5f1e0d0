//go:build linux

package image

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func viewKey(key string) string { return "view-" + key }

// PrepareView keeps an image's root file system for a mount of it in a container, as the image has it, until [Service.RemoveView].
// It outlives the engine. key names the mount, not the container alone, which may have several; id is the image's, for inspect and
// for [Config.InUse]. Preparing one that exists is errdefs.ErrAlreadyExists.
func (s *Service) PrepareView(ctx context.Context, key, ref string, platform *ocispec.Platform) (id string, err error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	ctx = inNamespace(ctx)
	m, err := s.find(ctx, ref, platform)
	if err != nil {
		return "", err
	}
	ctx, done, err := s.withLease(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	if !s.unpacked(ctx, m) { // of another platform, or its layers have been lost
		if err := s.unpackLocal(ctx, m); err != nil {
			return "", fmt.Errorf("unpacking image %s: %w", ref, err)
		}
	}
	_, err = s.layers.View(ctx, viewKey(key), m.top(), snapshots.WithLabels(map[string]string{
		labelRoot: time.Now().UTC().Format(time.RFC3339), labelManifest: m.desc.Digest.String(),
	}))
	if errdefs.IsAlreadyExists(err) {
		return "", withKind(errdefs.ErrAlreadyExists, "the view %s of an image exists already", key)
	}
	if err != nil {
		return "", fmt.Errorf("preparing a view of image %s: %w", ref, err)
	}
	return m.target.Digest.String(), nil
}

// MountView mounts a view, read-only, at target, an existing folder; mounting what is mounted is no error. [Service.UnmountRootFS]
// undoes it.
func (s *Service) MountView(ctx context.Context, key, target string) error {
	if mounted, err := mountinfo.Mounted(target); err != nil || mounted {
		return err
	}
	mounts, err := s.layers.Mounts(inNamespace(ctx), viewKey(key))
	if errdefs.IsNotFound(err) {
		return notFound("there is no view %s of an image", key)
	}
	if err != nil {
		return fmt.Errorf("mounting the view %s of an image: %w", key, err)
	}
	if err := mount.All(readOnly(mounts), target); err != nil {
		return fmt.Errorf("mounting the view %s of an image: %w", key, err)
	}
	return nil
}

// RemoveView lets go of a view; that it does not exist is no error.
func (s *Service) RemoveView(ctx context.Context, key string) error {
	err := s.layers.Remove(inNamespace(ctx), viewKey(key))
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("removing the view %s of an image: %w", key, err)
	}
	s.garbage.kick()
	return nil
}
