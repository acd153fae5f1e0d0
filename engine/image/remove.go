//go:build linux

package image

import (
	"context"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"

	"github.com/getberth/berth/engine/filter"
)

// Remove takes a name from an image, and the image away with its last name. By id, it goes with all its names; that must be
// forced when there are several. What containers use is kept unless forced, and while they run even then. With platforms it keeps
// its names and loses their content. What clients call pruning has no meaning: parents that only an old builder leaves do not exist here.
func (s *Service) Remove(ctx context.Context, ref string, o RemoveOptions) ([]image.DeleteResponse, error) {
	ctx = inNamespace(ctx)
	img, err := s.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if len(o.Platforms) > 0 {
		return s.removePlatforms(ctx, img, o)
	}
	all, err := s.sameTarget(ctx, img.Target.Digest)
	if err != nil {
		return nil, err
	}
	if byID(ref, img.Target.Digest) || isDangling(img) {
		return s.removeByID(ctx, img.Target.Digest, all, o.Force)
	}
	return s.removeByName(ctx, ref, img, all, o.Force)
}

func byID(ref string, id digest.Digest) bool {
	return strings.HasPrefix(id.String(), ref) || strings.HasPrefix(id.Encoded(), ref)
}

func (s *Service) removeByName(ctx context.Context, ref string, img images.Image, all []images.Image, force bool) ([]image.DeleteResponse, error) {
	same := sameName(ref, img, all)
	if len(same) < len(all) {
		return s.untag(ctx, same)
	}
	users := s.inUse(img.Target.Digest.String())
	switch {
	case len(users) == 0:
		return s.removeAll(ctx, img.Target.Digest, all)
	case !force:
		return nil, conflict("conflict: unable to delete %s (must be forced) - container %s is using its referenced image %s",
			familiar(img), truncate(users[0].ID), shortID(img.Target.Digest))
	}
	if err := s.keepNameless(ctx, img); err != nil {
		return nil, err
	}
	return s.untag(ctx, same)
}

// sameName are the records that a client means by a name: with a digest, all of the repository; with a tag, that one, and
// with the repository's last tag also what was pulled by digest.
func sameName(ref string, img images.Image, all []images.Image) []images.Image {
	asked, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return []images.Image{img}
	}
	_, byDigest := asked.(reference.Digested)
	var same, digests []images.Image
	otherTag := false
	for _, r := range all {
		named, err := reference.ParseNormalizedNamed(r.Name)
		switch {
		case err != nil || isDangling(r) || named.Name() != asked.Name():
		case byDigest || r.Name == img.Name:
			same = append(same, r)
		case isTagged(named):
			otherTag = true
		default:
			digests = append(digests, r)
		}
	}
	if !otherTag {
		same = append(same, digests...)
	}
	return same
}

func isTagged(named reference.Named) bool {
	_, ok := named.(reference.Tagged)
	return ok
}

// keepNameless keeps the image of a container that is to lose its name.
func (s *Service) keepNameless(ctx context.Context, img images.Image) error {
	s.naming.Lock()
	defer s.naming.Unlock()
	img.Name = danglingName(img.Target.Digest)
	_, err := s.images.Create(ctx, images.Image{Name: img.Name, Target: img.Target, Labels: img.Labels})
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (s *Service) removeByID(ctx context.Context, id digest.Digest, all []images.Image, force bool) ([]image.DeleteResponse, error) {
	users := s.inUse(id.String())
	for _, u := range users {
		if u.Running {
			return nil, conflict("conflict: unable to delete %s (cannot be forced) - image is being used by running container %s",
				shortID(id), truncate(u.ID))
		}
	}
	if !force && len(users) > 0 {
		return nil, conflict("conflict: unable to delete %s (must be forced) - image is being used by stopped container %s",
			shortID(id), truncate(users[0].ID))
	}
	if !force && len(all) > 1 {
		return nil, conflict("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", shortID(id))
	}
	return s.removeAll(ctx, id, all)
}

func truncate(id string) string { return id[:min(len(id), 12)] }

// untag drops names and nothing else.
func (s *Service) untag(ctx context.Context, records []images.Image) ([]image.DeleteResponse, error) {
	var done []image.DeleteResponse
	for _, r := range records {
		err := s.images.Delete(ctx, r.Name)
		if errdefs.IsNotFound(err) {
			continue // by another client
		}
		if err != nil {
			return done, err
		}
		if !isDangling(r) {
			done = append(done, image.DeleteResponse{Untagged: familiar(r)})
			s.event(events.ActionUnTag, r.Target.Digest.String(), familiar(r), nil)
		}
	}
	return done, nil
}

// removeAll drops all names, and frees what only they held.
func (s *Service) removeAll(ctx context.Context, id digest.Digest, all []images.Image) ([]image.DeleteResponse, error) {
	done, err := s.untag(ctx, all)
	if err != nil {
		return done, err
	}
	s.event(events.ActionDelete, id.String(), id.String(), nil)
	done = append(done, image.DeleteResponse{Deleted: id.String()})
	return done, s.collectNow(ctx)
}

func (s *Service) collectNow(ctx context.Context) error {
	err := s.garbage.run(ctx)
	s.forget()
	return err
}

// Prune removes images that have no name, or with dangling=false those that no container uses, and what pulls that were cut
// off have left.
func (s *Service) Prune(ctx context.Context, f filter.Args) (image.PruneReport, error) {
	ctx = inNamespace(ctx)
	report := image.PruneReport{ImagesDeleted: []image.DeleteResponse{}}
	if !s.pruning.TryLock() {
		return report, conflict("a prune operation is already running")
	}
	defer s.pruning.Unlock()
	if err := f.Allowed("dangling", "label", "label!", "until"); err != nil {
		return report, err
	}
	danglingOnly, err := f.Bool("dangling", true)
	if err != nil {
		return report, err
	}
	match, err := s.matcher(ctx, filter.Args{"label": f["label"], "label!": f["label!"], "until": f["until"]})
	if err != nil {
		return report, err
	}
	groups, err := s.groups(ctx, nil)
	if err != nil {
		return report, err
	}
	before, err := s.stored(ctx)
	if err != nil {
		return report, err
	}
	for _, g := range groups {
		if !match(g) || danglingOnly && g.named() {
			continue
		}
		done, err := s.pruneGroup(ctx, g)
		report.ImagesDeleted = append(report.ImagesDeleted, done...)
		if err != nil {
			return report, err
		}
	}
	if err := s.endPullLeases(ctx); err != nil {
		return report, err
	}
	if err := s.collectNow(ctx); err != nil {
		return report, err
	}
	after, err := s.stored(ctx)
	if after < before {
		report.SpaceReclaimed = uint64(before - after)
	}
	s.event(events.ActionPrune, "", "", nil)
	return report, err
}

// pruneGroup drops those names of an image that no container was created with. An image in use keeps at least one.
func (s *Service) pruneGroup(ctx context.Context, g *group) ([]image.DeleteResponse, error) {
	users := s.inUse(g.id())
	if len(users) == 0 {
		done, err := s.untag(ctx, g.records)
		if err != nil {
			return done, err
		}
		s.event(events.ActionDelete, g.id(), g.id(), nil)
		return append(done, image.DeleteResponse{Deleted: g.id()}), nil
	}
	unused := slices.DeleteFunc(slices.Clone(g.records), func(r images.Image) bool {
		return isDangling(r) || slices.ContainsFunc(users, func(u User) bool { return refersTo(u.Ref, r) })
	})
	if len(unused) == len(g.records) {
		return nil, nil
	}
	return s.untag(ctx, unused)
}

func refersTo(ref string, r images.Image) bool {
	named, err := reference.ParseNormalizedNamed(ref)
	return err == nil && reference.TagNameOnly(named).String() == r.Name
}

func (s *Service) endPullLeases(ctx context.Context) error {
	s.pulls.mu.Lock()
	defer s.pulls.mu.Unlock()
	all, err := s.leases.List(ctx, "labels.\""+leaseKind+"\"=="+leasePull)
	if err != nil {
		return err
	}
	for _, l := range all {
		if s.pulls.flying[l.ID] != nil {
			continue
		}
		if err := s.leases.Delete(ctx, leases.Lease{ID: l.ID}); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}
