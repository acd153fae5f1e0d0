//go:build linux

package image

import (
	"context"
	"fmt"
	"io"
	"maps"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containerd/platforms"
)

// Save writes images as an archive that any engine can load. A name without a tag stands for all tags of its repository; an
// image that is given by id is saved without a name. Of an index everything is saved that is here, or the given platforms only; it
// keeps its digest, and hence its id, in either case.
func (s *Service) Save(ctx context.Context, refs []string, only []ocispec.Platform, w io.Writer) error {
	ctx = inNamespace(ctx)
	ctx, done, err := s.withLease(ctx)
	if err != nil {
		return err
	}
	defer done()
	opts := []archive.ExportOpt{
		archive.WithSkipNonDistributableBlobs(), archive.WithPlatform(platformChoice{s.host, only}), archive.WithSkipMissing(s.content),
	}
	var saved []images.Image
	for _, ref := range refs {
		chosen, err := s.toSave(ctx, ref)
		if err != nil {
			return err
		}
		for _, img := range chosen {
			opt, err := s.exportOpt(ctx, img, only)
			if err != nil {
				return err
			}
			opts, saved = append(opts, opt), append(saved, img)
		}
	}
	if len(saved) == 0 {
		return invalid("saving images: none given")
	}
	if err := archive.Export(ctx, s.content, w, opts...); err != nil {
		return fmt.Errorf("saving images: %w", err)
	}
	for _, img := range saved {
		s.event(events.ActionSave, img.Target.Digest.String(), img.Target.Digest.String(), nil)
	}
	return nil
}

// platformChoice takes some platforms, or every one, and prefers the host's: old engines find only the first in an archive.
type platformChoice struct {
	platforms.MatchComparer
	only []ocispec.Platform
}

func (c platformChoice) Match(p ocispec.Platform) bool { return wanted(c.only, p) }

// toSave are the records that a reference stands for; one without a name for an image that is given by id.
func (s *Service) toSave(ctx context.Context, ref string) ([]images.Image, error) {
	if named, err := reference.ParseNormalizedNamed(ref); err == nil && reference.IsNameOnly(named) {
		all, err := s.repository(ctx, named)
		if err != nil || len(all) > 0 {
			return all, err
		}
	}
	img, err := s.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if _, digested := named.(reference.Digested); err != nil || digested || byID(ref, img.Target.Digest) {
		img.Name = ""
	}
	return []images.Image{img}, nil
}

// repository lists the tags of a repository.
func (s *Service) repository(ctx context.Context, named reference.Named) ([]images.Image, error) {
	all, err := s.images.List(ctx)
	if err != nil {
		return nil, err
	}
	var tags []images.Image
	for _, img := range all {
		n, err := reference.ParseNormalizedNamed(img.Name)
		if err == nil && !isDangling(img) && n.Name() == named.Name() && isTagged(n) {
			tags = append(tags, img)
		}
	}
	return tags, nil
}

// exportOpt adds an image to an archive and keeps it until the lease ends.
func (s *Service) exportOpt(ctx context.Context, img images.Image, only []ocispec.Platform) (archive.ExportOpt, error) {
	target := img.Target
	for _, p := range only {
		if _, err := s.manifest(ctx, target, &p); errdefs.IsNotFound(err) {
			return nil, noPlatform(familiar(img), &p)
		} else if err != nil {
			return nil, err
		}
	}
	if err := s.hold(ctx, target); err != nil {
		return nil, err
	}
	target.Annotations = maps.Clone(target.Annotations)
	delete(target.Annotations, images.AnnotationImageName)
	delete(target.Annotations, ocispec.AnnotationRefName)
	if img.Name == "" || isDangling(img) {
		return archive.WithManifest(target), nil
	}
	return archive.WithManifest(target, img.Name), nil
}

// hold puts content, and what it refers to, under the context's lease.
func (s *Service) hold(ctx context.Context, d ocispec.Descriptor) error {
	id, ok := leases.FromContext(ctx)
	if !ok {
		return nil
	}
	return s.leases.AddResource(ctx, leases.Lease{ID: id}, leases.Resource{ID: d.Digest.String(), Type: "content"})
}
