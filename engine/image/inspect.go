//go:build linux

package image

import (
	"context"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containerd/containerd/v2/core/images"
)

// Inspect describes an image, of one platform when that is given.
func (s *Service) Inspect(ctx context.Context, ref string, platform *ocispec.Platform) (image.InspectResponse, error) {
	ctx = inNamespace(ctx)
	img, err := s.resolve(ctx, ref)
	if err != nil {
		return image.InspectResponse{}, err
	}
	records, err := s.sameTarget(ctx, img.Target.Digest)
	if err != nil {
		return image.InspectResponse{}, err
	}
	target := img.Target
	r := image.InspectResponse{ID: target.Digest.String(), Descriptor: &target}
	r.RepoTags, r.RepoDigests = names(records)
	for _, rec := range records {
		if rec.UpdatedAt.After(r.Metadata.LastTagTime) {
			r.Metadata.LastTagTime = rec.UpdatedAt
		}
	}
	m, err := s.manifest(ctx, target, platform)
	if errdefs.IsNotFound(err) {
		err = noPlatform(ref, platform)
	}
	if err != nil {
		return r, err
	}
	c, err := m.image()
	if err != nil {
		return r, err
	}
	describeConfig(&r, c)
	if platform != nil {
		one := m.desc
		one.Platform = &ocispec.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant, OSVersion: c.OSVersion}
		r.Descriptor = &one
	}
	if r.Manifests, _, err = s.describe(ctx, target, s.inUse(r.ID)); err != nil {
		return r, err
	}
	r.Size, err = s.manifestSize(ctx, m)
	return r, err
}

func describeConfig(r *image.InspectResponse, c dockerspec.DockerOCIImage) {
	r.Config = &c.Config
	r.Author, r.Architecture, r.Variant, r.Os, r.OsVersion = c.Author, c.Architecture, c.Variant, c.OS, c.OSVersion
	if n := len(c.History); n > 0 {
		r.Comment = c.History[n-1].Comment
	}
	if c.Created != nil {
		r.Created = c.Created.Format(time.RFC3339Nano)
	}
	r.RootFS.Type = c.RootFS.Type
	for _, d := range c.RootFS.DiffIDs {
		r.RootFS.Layers = append(r.RootFS.Layers, d.String())
	}
}

func (s *Service) manifestSize(ctx context.Context, m *manifest) (int64, error) {
	size := m.desc.Size + m.manifest.Config.Size
	for _, l := range m.manifest.Layers {
		size += l.Size
	}
	unpacked, err := s.chainSize(ctx, m.top())
	if errdefs.IsNotFound(err) {
		err = nil
	}
	return size + unpacked, err
}

// storedLayers is what committed snapshots take; what is made for containers is not images'.
func (s *Service) storedLayers(ctx context.Context) (total int64, err error) {
	err = s.layers.Walk(ctx, func(ctx context.Context, info snapshots.Info) error {
		if info.Kind != snapshots.KindCommitted || info.Labels[labelBase] != "" {
			return nil
		}
		size, err := s.snapshotSize(ctx, info.Name)
		total += size.own
		return err
	})
	return total, err
}

// History tells how an image was made, newest step first.
func (s *Service) History(ctx context.Context, ref string, platform *ocispec.Platform) ([]image.HistoryResponseItem, error) {
	ctx = inNamespace(ctx)
	m, err := s.find(ctx, ref, platform)
	if err != nil {
		return nil, err
	}
	c, err := m.image()
	if err != nil {
		return nil, err
	}
	chain := m.chain()
	items := []image.HistoryResponseItem{}
	for _, h := range c.History {
		item := image.HistoryResponseItem{ID: "<missing>", Comment: h.Comment, CreatedBy: h.CreatedBy}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if !h.EmptyLayer && len(chain) > 0 {
			size, err := s.snapshotSize(ctx, chain[0].String())
			if err != nil && !errdefs.IsNotFound(err) {
				return nil, err
			}
			item.Size, chain = size.own, chain[1:]
		}
		items = append(items, item)
	}
	slices.Reverse(items)
	if len(items) > 0 {
		records, err := s.sameTarget(ctx, m.target.Digest)
		if err != nil {
			return nil, err
		}
		items[0].ID = m.target.Digest.String()
		items[0].Tags, _ = names(records)
	}
	return items, nil
}

// Tag gives an image another name.
func (s *Service) Tag(ctx context.Context, source, target string) error {
	ctx = inNamespace(ctx)
	named, err := parseTarget(target)
	if err != nil {
		return err
	}
	img, err := s.resolve(ctx, source)
	if err != nil {
		return err
	}
	if err := s.name(ctx, images.Image{Name: named.String(), Target: img.Target, UpdatedAt: time.Now()}); err != nil {
		return err
	}
	s.event(events.ActionTag, img.Target.Digest.String(), reference.FamiliarString(named), nil)
	return nil
}
