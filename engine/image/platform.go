//go:build linux

package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// removePlatforms frees the content of some platforms of an image, which stays with its names, also when none is left. An index
// that shares a manifest loses it as well, and hence this must be forced.
func (s *Service) removePlatforms(ctx context.Context, img images.Image, o RemoveOptions) ([]image.DeleteResponse, error) {
	if !o.Force {
		return nil, invalid("Content will be removed from all images referencing this variant. Use --force to force delete.")
	}
	var chosen []digest.Digest
	for _, p := range o.Platforms { // all, before the first goes
		m, err := s.manifest(ctx, img.Target, &p)
		if errdefs.IsNotFound(err) {
			err = noPlatform(familiar(img), &p)
		}
		if err != nil {
			return nil, err
		}
		if key, ok, err := s.roots.user(ctx, m.desc.Digest); err != nil {
			return nil, err
		} else if ok {
			return nil, conflict("conflict: unable to delete platform %s of %s (cannot be forced) - it is being used by container %s",
				platforms.FormatAll(p), familiar(img), truncate(key))
		}
		chosen = append(chosen, m.desc.Digest)
	}
	var done []image.DeleteResponse
	for _, d := range chosen {
		err := s.content.Delete(ctx, d)
		if errdefs.IsNotFound(err) {
			continue // the same platform twice, or another client was first
		}
		if err != nil {
			return done, errors.Join(fmt.Errorf("removing manifest %s: %w", d, err), s.collectNow(ctx))
		}
		done = append(done, image.DeleteResponse{Deleted: d.String()})
	}
	return done, s.collectNow(ctx)
}

// wanted reports whether a platform is one of the list. Without a list, all are wanted.
func wanted(list []ocispec.Platform, p ocispec.Platform) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(w ocispec.Platform) bool { return platforms.OnlyStrict(w).Match(p) })
}

// formatAll lists platforms as an error shows them.
func formatAll(list []ocispec.Platform) string {
	var all []string
	for _, p := range list {
		all = append(all, platforms.FormatAll(p))
	}
	return strings.Join(all, ", ")
}
