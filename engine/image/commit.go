//go:build linux

package image

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/archive"
	cfs "github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// RootFSChanges lists what a container has changed in its root filesystem, parents before what is in them.
func (s *Service) RootFSChanges(ctx context.Context, key string) ([]container.FilesystemChange, error) {
	list := []container.FilesystemChange{}
	kinds := map[cfs.ChangeKind]container.ChangeType{
		cfs.ChangeKindAdd: container.ChangeAdd, cfs.ChangeKindModify: container.ChangeModify, cfs.ChangeKindDelete: container.ChangeDelete,
	}
	err := s.diff(inNamespace(ctx), key, func(_ string, changed walkChanges) error {
		return changed(func(kind cfs.ChangeKind, path string, _ os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			if k, ok := kinds[kind]; ok && !strings.HasSuffix(path, opaqueMark) {
				list = append(list, container.FilesystemChange{Kind: k, Path: path})
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing the changes of container %s: %w", key, err)
	}
	return withParents(list), nil
}

// withParents adds the folders that are changed by what is changed in them.
func withParents(list []container.FilesystemChange) []container.FilesystemChange {
	listed := map[string]bool{"/": true}
	for _, c := range list {
		listed[c.Path] = true
	}
	for _, c := range slices.Clone(list) {
		for dir := path.Dir(c.Path); !listed[dir]; dir = path.Dir(dir) {
			listed[dir] = true
			list = append(list, container.FilesystemChange{Kind: container.ChangeModify, Path: dir})
		}
	}
	slices.SortFunc(list, func(a, b container.FilesystemChange) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// opaqueMark ends the path by which a walk says that a folder hides the one below it.
const opaqueMark = "/.wh..opq"

// walkChanges calls a function for each change.
type walkChanges func(cfs.ChangeFunc) error

// diff mounts what is below a container's writable layer, and hands the container's changes to f, and the folder that they
// are in.
func (s *Service) diff(ctx context.Context, key string, f func(root string, changed walkChanges) error) error {
	base, err := s.baseOf(ctx, key)
	if err != nil {
		return err
	}
	return s.withBase(ctx, base, func(lower string) error {
		if dir, ok := s.roots.upper(key); ok {
			return f(dir, func(change cfs.ChangeFunc) error {
				return cfs.DiffDirChanges(ctx, lower, dir, cfs.DiffSourceOverlayFS, change)
			})
		}
		mounts, err := s.roots.mounts(ctx, key)
		if err != nil {
			return err
		}
		return s.withMount(readOnly(mounts), func(root string) error {
			return f(root, func(change cfs.ChangeFunc) error { return cfs.Changes(ctx, lower, root, change) })
		})
	})
}

// withBase mounts the layers of an image for the time of one call.
func (s *Service) withBase(ctx context.Context, m *manifest, f func(root string) error) error {
	ctx, done, err := s.withLease(ctx)
	if err != nil {
		return err
	}
	defer done()
	view := s.op("view")
	mounts, err := s.layers.View(ctx, view, m.top())
	if err != nil {
		return err
	}
	defer s.dropSnapshot(ctx, view)
	return s.withMount(mounts, f)
}

func readOnly(mounts []mount.Mount) []mount.Mount {
	out := slices.Clone(mounts)
	for i, m := range out {
		out[i].Options = append(slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "rw" }), "ro")
	}
	return out
}

// CommitRootFS makes an image of a container's root filesystem: the layers of its image and one of its changes. RootFS of the
// configuration is filled in. Its History is appended to that of the image, with which it may begin; without any of its own, a
// line is made of its Author and Cmd.
func (s *Service) CommitRootFS(ctx context.Context, key, ref string, config dockerspec.DockerOCIImage) (id string, err error) {
	ctx = inNamespace(ctx)
	name, err := targetName(ref)
	if err != nil {
		return "", err
	}
	base, err := s.baseOf(ctx, key)
	if err != nil {
		return "", err
	}
	ctx, done, err := s.withLease(ctx)
	if err != nil {
		return "", err
	}
	defer s.discardLease(ctx, done, &err)
	layer, diffID, err := s.diffLayer(ctx, key)
	if err != nil {
		return "", fmt.Errorf("committing container %s: %w", key, err)
	}
	if err := base.extend(&config, diffID); err != nil {
		return "", err
	}
	id, err = s.build(ctx, name, config, append(slices.Clone(base.manifest.Layers), layer))
	if err != nil {
		return "", fmt.Errorf("committing container %s: %w", key, err)
	}
	return id, nil
}

// baseOf is the image that a container was made of, whether or not it still has a name.
func (s *Service) baseOf(ctx context.Context, key string) (*manifest, error) {
	id, err := s.roots.base(ctx, key)
	if errdefs.IsNotFound(err) {
		return nil, noRootFS(key)
	}
	if err != nil {
		return nil, err
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: id}
	m, err := s.readManifest(ctx, d, d)
	if err != nil {
		return nil, fmt.Errorf("reading the image of container %s: %w", key, err)
	}
	return m, nil
}

// extend completes the configuration of an image that has one more layer than m.
func (m *manifest) extend(c *dockerspec.DockerOCIImage, diffID digest.Digest) error {
	base, err := m.image()
	if err != nil {
		return err
	}
	if c.Created == nil {
		now := time.Now().UTC()
		c.Created = &now
	}
	if c.OS == "" {
		c.Platform = base.Platform
	}
	c.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: append(slices.Clone(m.diffIDs), diffID)}
	own := c.History
	if n := len(base.History); n > 0 && len(own) >= n && reflect.DeepEqual(own[:n], base.History) {
		own = own[n:]
	}
	if len(own) == 0 {
		own = []ocispec.History{{Created: c.Created, CreatedBy: strings.Join(c.Config.Cmd, " "), Author: c.Author}}
	}
	c.History = append(slices.Clone(base.History), own...)
	return nil
}

// diffLayer stores a container's changes as a layer. Sockets cannot be in one and are left out, as Docker does.
func (s *Service) diffLayer(ctx context.Context, key string) (layer ocispec.Descriptor, diffID digest.Digest, err error) {
	err = s.diff(ctx, key, func(root string, changed walkChanges) error {
		layer, diffID, err = s.writeLayer(ctx, func(w io.Writer) error {
			cw := archive.NewChangeWriter(w, root)
			err := changed(func(kind cfs.ChangeKind, path string, info os.FileInfo, err error) error {
				if info != nil && info.Mode()&fs.ModeSocket != 0 {
					return err
				}
				return cw.HandleChange(kind, path, info, err)
			})
			if err != nil {
				return err
			}
			return cw.Close()
		})
		return err
	})
	return layer, diffID, err
}
