//go:build linux

package image

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// danglingPrefix begins the name of the record that keeps an image without a name.
const danglingPrefix = "dangling@"

func danglingName(d digest.Digest) string { return danglingPrefix + d.String() }

func isDangling(img images.Image) bool { return strings.HasPrefix(img.Name, danglingPrefix) }

// parseName reads a name as clients give it: "busybox" is docker.io/library/busybox, without a tag.
func parseName(ref string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, invalid("invalid reference format: %q: %w", ref, err)
	}
	return named, nil
}

// parseTarget reads a name that an image is to be given: "latest" unless it has a tag.
func parseTarget(ref string) (reference.NamedTagged, error) {
	named, err := parseName(ref)
	if err != nil {
		return nil, err
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, invalid("refusing to create a tag with a digest reference")
	}
	return reference.TagNameOnly(named).(reference.NamedTagged), nil
}

// familiar is a record's name as clients are shown it.
func familiar(img images.Image) string {
	if isDangling(img) {
		return img.Target.Digest.String()
	}
	if named, err := reference.ParseNormalizedNamed(img.Name); err == nil {
		return reference.FamiliarString(named)
	}
	return img.Name
}

// resolve finds an image by what a client calls it: name[:tag], name@digest, id, "sha256:" and id, or the beginning of an id.
func (s *Service) resolve(ctx context.Context, ref string) (images.Image, error) {
	if ref == "" {
		return images.Image{}, invalid("invalid reference format: empty")
	}
	if d, err := digest.Parse(ref); err == nil {
		return s.resolveDigest(ctx, ref, d)
	}
	if fullID.MatchString(ref) {
		return s.resolveDigest(ctx, ref, digest.NewDigestFromEncoded(digest.SHA256, ref))
	}
	var missing error
	named, nameErr := reference.ParseNormalizedNamed(ref)
	if nameErr == nil {
		img, err := s.resolveName(ctx, ref, named)
		if !errdefs.IsNotFound(err) {
			return img, err
		}
		missing = err
	}
	if m := partialID.FindStringSubmatch(ref); m != nil {
		return s.resolvePrefix(ctx, ref, m[1])
	}
	if nameErr != nil {
		return images.Image{}, invalid("%w", nameErr)
	}
	return images.Image{}, missing
}

var (
	fullID    = regexp.MustCompile(`^[a-f0-9]{64}$`)
	partialID = regexp.MustCompile(`^(?:sha256:)?([a-f0-9]{1,64})$`)
)

func (s *Service) resolveName(ctx context.Context, ref string, named reference.Named) (images.Image, error) {
	if d, ok := named.(reference.Digested); ok {
		return s.resolveNamedDigest(ctx, ref, named, d.Digest())
	}
	img, err := s.images.Get(ctx, reference.TagNameOnly(named).String())
	if errdefs.IsNotFound(err) {
		if reference.IsNameOnly(named) {
			ref += ":latest"
		}
		return images.Image{}, noSuchImage(ref)
	}
	return img, err
}

// resolveNamedDigest does not let a digest match under the name of another repository.
func (s *Service) resolveNamedDigest(ctx context.Context, ref string, named reference.Named, d digest.Digest) (images.Image, error) {
	all, err := s.sameTarget(ctx, d)
	if err != nil {
		return images.Image{}, err
	}
	for _, img := range all {
		if n, err := reference.ParseNormalizedNamed(img.Name); err == nil && !isDangling(img) && n.Name() == named.Name() {
			return img, nil
		}
	}
	return images.Image{}, noSuchImage(ref)
}

// resolveDigest takes an id, and also the digest of an image's configuration or of one of its manifests: engines without the
// containerd store gave those as ids.
func (s *Service) resolveDigest(ctx context.Context, ref string, d digest.Digest) (images.Image, error) {
	all, err := s.sameTarget(ctx, d)
	if err != nil {
		return images.Image{}, err
	}
	if len(all) > 0 {
		return all[0], nil
	}
	if all, err = s.images.List(ctx); err != nil {
		return images.Image{}, err
	}
	for _, img := range all {
		m, err := s.manifest(ctx, img.Target, nil)
		if err == nil && (m.manifest.Config.Digest == d || m.desc.Digest == d) {
			return img, nil
		}
	}
	return images.Image{}, noSuchImage(ref)
}

func (s *Service) resolvePrefix(ctx context.Context, ref, prefix string) (images.Image, error) {
	all, err := s.images.List(ctx, "target.digest~="+strconv.Quote("^sha256:"+prefix))
	if err != nil {
		return images.Image{}, err
	}
	if len(all) == 0 {
		return images.Image{}, noSuchImage(ref)
	}
	for _, img := range all[1:] {
		if img.Target.Digest != all[0].Target.Digest {
			return images.Image{}, notFound("ambiguous reference: %s is the beginning of several image ids", ref)
		}
	}
	return preferNamed(all), nil
}

// sameTarget lists the records of one image: its names, or the one that keeps it without a name.
func (s *Service) sameTarget(ctx context.Context, d digest.Digest) ([]images.Image, error) {
	all, err := s.images.List(ctx, "target.digest=="+d.String())
	if err != nil {
		return nil, fmt.Errorf("listing the names of %s: %w", d, err)
	}
	slices.SortFunc(all, func(a, b images.Image) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func preferNamed(all []images.Image) images.Image {
	for _, img := range all {
		if !isDangling(img) {
			return img
		}
	}
	return all[0]
}

// name gives an image a name, or keeps it without one when name is empty. What had the name before is kept without it, as
// long as it has no other.
func (s *Service) name(ctx context.Context, img images.Image) error {
	s.naming.Lock()
	defer s.naming.Unlock()
	if img.Name == "" {
		return s.keepDangling(ctx, img)
	}
	old, err := s.images.Get(ctx, img.Name)
	switch {
	case errdefs.IsNotFound(err):
		if _, err := s.images.Create(ctx, img); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if old.Target.Digest != img.Target.Digest {
			if err := s.keepLast(ctx, old); err != nil {
				return err
			}
		}
		if _, err := s.images.Update(ctx, img); err != nil {
			return err
		}
	}
	err = s.images.Delete(ctx, danglingName(img.Target.Digest))
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// keepLast keeps an image whose only name is about to go.
func (s *Service) keepLast(ctx context.Context, old images.Image) error {
	all, err := s.sameTarget(ctx, old.Target.Digest)
	if err != nil || len(all) > 1 {
		return err
	}
	return s.keepDangling(ctx, old)
}

func (s *Service) keepDangling(ctx context.Context, img images.Image) error {
	all, err := s.sameTarget(ctx, img.Target.Digest)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(other images.Image) bool { return other.Name != img.Name }) {
		return nil // it has a name, or is kept already
	}
	img.Name = danglingName(img.Target.Digest)
	img.CreatedAt, img.UpdatedAt = time.Time{}, time.Time{}
	_, err = s.images.Create(ctx, img)
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}
