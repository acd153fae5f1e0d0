//go:build linux

package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/sys/mountinfo"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Config resolves an image and returns a copy of its configuration.
func (s *Service) Config(ctx context.Context, ref string, platform *ocispec.Platform) (string, dockerspec.DockerOCIImage, error) {
	m, err := s.find(inNamespace(ctx), ref, platform)
	if err != nil {
		return "", dockerspec.DockerOCIImage{}, err
	}
	c, err := m.image()
	return m.target.Digest.String(), c, err
}

func noRootFS(key string) error { return notFound("container %s has no root filesystem", key) }

// checkKey refuses what cannot be the name of a folder.
func checkKey(key string) error {
	if key == "" || key[0] == '.' || len(key) > 128 || strings.ContainsAny(key, "/\x00") {
		return invalid("invalid container id %q", key)
	}
	return nil
}

// find resolves an image and chooses its manifest for a platform.
func (s *Service) find(ctx context.Context, ref string, platform *ocispec.Platform) (*manifest, error) {
	img, err := s.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	m, err := s.manifest(ctx, img.Target, platform)
	if errdefs.IsNotFound(err) {
		return nil, noPlatform(ref, platform)
	}
	return m, err
}

// PrepareRootFS makes the writable layer of a container on top of an image.
func (s *Service) PrepareRootFS(ctx context.Context, key, imageID string, platform *ocispec.Platform) error {
	if err := checkKey(key); err != nil {
		return err
	}
	ctx = inNamespace(ctx)
	m, err := s.find(ctx, imageID, platform)
	if err != nil {
		return err
	}
	err = s.roots.prepare(ctx, key, m)
	if errdefs.IsNotFound(err) { // of another platform, or its layers have been lost
		if err = s.unpackLocal(ctx, m); err == nil {
			err = s.roots.prepare(ctx, key, m)
		}
	}
	if errdefs.IsAlreadyExists(err) {
		return withKind(errdefs.ErrAlreadyExists, "the root filesystem of container %s exists already", key)
	}
	if err != nil {
		return fmt.Errorf("preparing the root filesystem of container %s: %w", key, err)
	}
	return nil
}

// unpackLocal unpacks an image whose content is here.
func (s *Service) unpackLocal(ctx context.Context, m *manifest) error {
	ctx, done, err := s.withLease(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := s.unpack(ctx, m, unpackHooks{}); err != nil {
		return err
	}
	return s.link(ctx, m)
}

// MountRootFS mounts a container's layers at target, an existing folder.
func (s *Service) MountRootFS(ctx context.Context, key, target string) error {
	if mounted, err := mountinfo.Mounted(target); err != nil {
		return fmt.Errorf("mounting the root filesystem of container %s: %w", key, err)
	} else if mounted {
		return nil
	}
	mounts, err := s.roots.mounts(inNamespace(ctx), key)
	if errdefs.IsNotFound(err) {
		return noRootFS(key)
	}
	if err != nil {
		return fmt.Errorf("mounting the root filesystem of container %s: %w", key, err)
	}
	if err := mount.All(mounts, target); err != nil {
		return fmt.Errorf("mounting the root filesystem of container %s: %w", key, err)
	}
	return nil
}

// UnmountRootFS unmounts target. A process that still uses the mount keeps it for itself.
func (s *Service) UnmountRootFS(_ context.Context, target string) error { return unmountAll(target) }

// unmountAll undoes every mount at target; EINVAL says that there is none (umount(2)).
func unmountAll(target string) error {
	for {
		err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unmounting %s: %w", target, err)
		}
	}
}

// RemoveRootFS drops a container's writable layer. Its space is freed soon after.
func (s *Service) RemoveRootFS(ctx context.Context, key string) error {
	err := s.roots.remove(inNamespace(ctx), key)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("removing the root filesystem of container %s: %w", key, err)
	}
	s.garbage.look()
	return nil
}

// RootFSSize returns the bytes of the writable layer, and of it with all layers below.
func (s *Service) RootFSSize(ctx context.Context, key string) (rw, total int64, err error) {
	ctx = inNamespace(ctx)
	base, err := s.baseOf(ctx, key)
	if err != nil {
		return 0, 0, err
	}
	if rw, err = s.roots.usage(ctx, key); err != nil {
		return 0, 0, fmt.Errorf("measuring the root filesystem of container %s: %w", key, err)
	}
	below, err := s.chainSize(ctx, base.top())
	return rw, rw + below, err
}

// sizes caches what committed snapshots take, which does not change. Its zero value is usable.
type sizes struct {
	mu sync.Mutex // guards m
	m  map[string]snapshotSize
}

type snapshotSize struct {
	parent string
	own    int64
}

// chainSize is what a committed snapshot takes with all those below it.
func (s *Service) chainSize(ctx context.Context, name string) (total int64, err error) {
	for name != "" {
		size, err := s.snapshotSize(ctx, name)
		if err != nil {
			return 0, err
		}
		total += size.own
		name = size.parent
	}
	return total, nil
}

func (s *Service) snapshotSize(ctx context.Context, name string) (snapshotSize, error) {
	s.sizes.mu.Lock()
	size, ok := s.sizes.m[name]
	s.sizes.mu.Unlock()
	if ok {
		return size, nil
	}
	info, err := s.layers.Stat(ctx, name)
	if err != nil {
		return size, err
	}
	usage, err := s.layers.Usage(ctx, name)
	if err != nil {
		return size, err
	}
	size = snapshotSize{info.Parent, usage.Size}
	s.sizes.mu.Lock()
	defer s.sizes.mu.Unlock()
	if s.sizes.m == nil || len(s.sizes.m) > 4*maxCached {
		s.sizes.m = map[string]snapshotSize{}
	}
	s.sizes.m[name] = size
	return size, nil
}

// forget drops what was cached of content that may be gone.
func (s *Service) forget() {
	s.cache.forget()
	s.sizes.mu.Lock()
	defer s.sizes.mu.Unlock()
	s.sizes.m = nil
}

// withMount mounts for the time of one call, in a folder of the store.
func (s *Service) withMount(mounts []mount.Mount, f func(root string) error) error {
	root, err := os.MkdirTemp(s.mountDir, "m")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(root) }() // never what is in it
	defer func() { _ = unmountAll(root) }()
	if err := mount.All(mounts, root); err != nil {
		return fmt.Errorf("mounting layers: %w", err)
	}
	return f(root)
}

// unmountStale removes what withMount left at a crash.
func (s *Service) unmountStale() error {
	entries, err := os.ReadDir(s.mountDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(s.mountDir, e.Name())
		if !strings.HasPrefix(e.Name(), "m") {
			continue
		}
		if err := unmountAll(dir); err != nil {
			return err
		}
		if err := os.Remove(dir); err != nil {
			return err
		}
	}
	return nil
}
