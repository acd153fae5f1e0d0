//go:build linux

package image

import (
	"cmp"
	"context"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/getberth/berth/engine/filter"
)

// group is an image with those of its records that were asked for.
type group struct {
	target  ocispec.Descriptor
	records []images.Image // sorted by name
	best    *manifest      // nil when no platform is complete
	config  dockerspec.DockerOCIImage
}

func (g *group) id() string { return g.target.Digest.String() }

func (g *group) created() time.Time {
	if g.config.Created != nil {
		return *g.config.Created
	}
	return time.Time{}
}

func (g *group) named() bool {
	return slices.ContainsFunc(g.records, func(r images.Image) bool { return !isDangling(r) })
}

// List lists images, newest first.
func (s *Service) List(ctx context.Context, o ListOptions) ([]image.Summary, error) {
	ctx = inNamespace(ctx)
	err := o.Filters.Allowed("dangling", "label", "label!", "before", "since", "until", "reference")
	if err != nil {
		return nil, err
	}
	match, err := s.matcher(ctx, o.Filters)
	if err != nil {
		return nil, err
	}
	groups, err := s.groups(ctx, o.Filters["reference"])
	if err != nil {
		return nil, err
	}
	list := []image.Summary{}
	for _, g := range groups {
		if !match(g) {
			continue
		}
		sum, err := s.summary(ctx, g, o.Manifests)
		if err != nil {
			return nil, err
		}
		list = append(list, sum)
	}
	if o.SharedSize {
		if err := s.addSharedSizes(ctx, list, groups); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(list, func(a, b image.Summary) int {
		return cmp.Or(cmp.Compare(b.Created, a.Created), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// groups collects the records by image. Patterns select by name; without any, all count.
func (s *Service) groups(ctx context.Context, patterns []string) ([]*group, error) {
	all, err := s.images.List(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[digest.Digest]*group{}
	for _, r := range all {
		ok, err := matchReference(patterns, r)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		g := byID[r.Target.Digest]
		if g == nil {
			g = &group{target: r.Target}
			byID[r.Target.Digest] = g
		}
		g.records = append(g.records, r)
	}
	groups := slices.SortedFunc(maps.Values(byID), func(a, b *group) int { return strings.Compare(a.id(), b.id()) })
	for _, g := range groups {
		slices.SortFunc(g.records, func(a, b images.Image) int { return strings.Compare(a.Name, b.Name) })
		// An image that cannot be read is listed all the same, so that it can be removed.
		if m, err := s.manifest(ctx, g.target, nil); err == nil {
			g.best = m
			g.config, _ = m.image()
		}
	}
	return groups, nil
}

func matchReference(patterns []string, r images.Image) (bool, error) {
	if len(patterns) == 0 {
		return true, nil
	}
	named, err := reference.ParseNormalizedNamed(r.Name)
	if err != nil || isDangling(r) {
		return false, nil
	}
	for _, p := range patterns {
		ok, err := matchName(p, named)
		if err != nil {
			return false, invalid("invalid filter 'reference=%s': %w", p, err)
		}
		if ok {
			return true, nil
		}
	}
	return false, nil
}

// matchName matches the name as users write it, and also in full.
func matchName(pattern string, named reference.Named) (bool, error) {
	if ok, err := reference.FamiliarMatch(pattern, named); ok || err != nil {
		return ok, err
	}
	for _, full := range []string{named.String(), named.Name()} {
		if ok, err := path.Match(pattern, full); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// matcher makes one test of all filters but "reference".
func (s *Service) matcher(ctx context.Context, f filter.Args) (func(*group) bool, error) {
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	var before time.Time
	for _, text := range f["until"] {
		t, err := filter.ParseTime(text, time.Now())
		if err != nil {
			return nil, err
		}
		if before.IsZero() || t.Before(before) {
			before = t
		}
	}
	for _, ref := range f["before"] {
		t, err := s.createdAt(ctx, ref)
		if err != nil {
			return nil, err
		}
		if before.IsZero() || t.Before(before) {
			before = t
		}
	}
	var since time.Time
	for _, ref := range f["since"] {
		t, err := s.createdAt(ctx, ref)
		if err != nil {
			return nil, err
		}
		if t.After(since) {
			since = t
		}
	}
	return func(g *group) bool {
		return (!f.Has("dangling") || g.named() != dangling) &&
			(before.IsZero() || g.created().Before(before)) &&
			(since.IsZero() || g.created().After(since)) &&
			f.MatchPrune(g.config.Config.Labels)
	}, nil
}

func (s *Service) createdAt(ctx context.Context, ref string) (time.Time, error) {
	m, err := s.find(ctx, ref, nil)
	if err != nil {
		return time.Time{}, err
	}
	c, err := m.image()
	if err != nil || c.Created == nil {
		return time.Time{}, err
	}
	return *c.Created, nil
}

func (s *Service) summary(ctx context.Context, g *group, withManifests bool) (image.Summary, error) {
	target, users := g.target, s.inUse(g.id())
	sum := image.Summary{
		ID: g.id(), Containers: int64(len(users)), Labels: g.config.Config.Labels, Descriptor: &target, SharedSize: -1,
	}
	if g.config.Created != nil {
		sum.Created = g.created().Unix()
	}
	if sum.Labels == nil {
		sum.Labels = map[string]string{}
	}
	sum.RepoTags, sum.RepoDigests = names(g.records)
	manifests, size, err := s.describe(ctx, g.target, users)
	if err != nil {
		return sum, err
	}
	sum.Size = size
	if withManifests {
		sum.Manifests = manifests
	}
	return sum, nil
}

// names splits the records of an image into repository:tag and repository@digest. Neither is nil.
func names(records []images.Image) (tags, digests []string) {
	tags, digests = []string{}, []string{}
	for _, r := range records {
		named, err := reference.ParseNormalizedNamed(r.Name)
		if err != nil || isDangling(r) {
			continue
		}
		if _, ok := named.(reference.Tagged); ok {
			tags = append(tags, reference.FamiliarString(named))
		}
		digested, err := reference.WithDigest(reference.TrimNamed(named), r.Target.Digest)
		if err == nil {
			digests = append(digests, reference.FamiliarString(digested))
		}
	}
	slices.Sort(digests)
	return tags, slices.Compact(digests)
}

// describe lists what an image or index consists of, here or not, and what all of it takes: blobs and unpacked layers.
func (s *Service) describe(ctx context.Context, target ocispec.Descriptor, users []User) ([]image.ManifestSummary, int64, error) {
	descs := []ocispec.Descriptor{target}
	var total int64
	if isIndex(target) {
		index, err := s.readIndex(ctx, target)
		if err != nil {
			return nil, 0, skipMissing(err)
		}
		descs, total = index.Manifests, target.Size
	}
	var all []image.ManifestSummary
	counted := map[digest.Digest]bool{}
	for _, d := range descs {
		sum, err := s.describeManifest(ctx, target, d, counted)
		if err != nil {
			return nil, 0, err
		}
		if sum.ImageData != nil {
			for _, u := range users {
				sum.ImageData.Containers = append(sum.ImageData.Containers, u.ID)
			}
		}
		total += sum.Size.Total
		all = append(all, sum)
	}
	return all, total, nil
}

// skipMissing lets a list go on past an image that a crash or a full disk has left without its content.
func skipMissing(err error) error {
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		return nil
	}
	return err
}

func (s *Service) describeManifest(ctx context.Context, target, d ocispec.Descriptor, counted map[digest.Digest]bool) (image.ManifestSummary, error) {
	sum := image.ManifestSummary{ID: d.Digest.String(), Descriptor: d, Kind: image.ManifestKindUnknown}
	if isAttestation(d) {
		sum.Kind = image.ManifestKindAttestation
		if subject, err := digest.Parse(d.Annotations["vnd.docker.reference.digest"]); err == nil {
			sum.AttestationData = &image.AttestationProperties{For: subject}
		}
		return sum, nil
	}
	m, err := s.readManifest(ctx, target, d)
	if err != nil {
		return sum, skipMissing(err)
	}
	sum.Kind = image.ManifestKindImage
	sum.Available = s.hasBlobs(ctx, m.manifest.Layers)
	for _, b := range append([]ocispec.Descriptor{d, m.manifest.Config}, m.manifest.Layers...) {
		if info, err := s.content.Info(ctx, b.Digest); err == nil && !counted[b.Digest] {
			counted[b.Digest] = true
			sum.Size.Content += info.Size
		}
	}
	props := &image.ImageProperties{Platform: m.platform, Containers: []string{}}
	if unpacked, err := s.chainSize(ctx, m.top()); err == nil {
		props.Size.Unpacked = unpacked
	} else if !errdefs.IsNotFound(err) {
		return sum, err
	}
	sum.ImageData = props
	sum.Size.Total = sum.Size.Content + props.Size.Unpacked
	return sum, nil
}

// addSharedSizes fills in, for each image, what its unpacked layers share with other images.
func (s *Service) addSharedSizes(ctx context.Context, list []image.Summary, groups []*group) error {
	users := map[digest.Digest]int{}
	chains := map[string][]digest.Digest{}
	for _, g := range groups {
		if g.best == nil {
			continue
		}
		chains[g.id()] = g.best.chain()
		for _, c := range chains[g.id()] {
			users[c]++
		}
	}
	for i := range list {
		list[i].SharedSize = 0
		for _, c := range chains[list[i].ID] {
			if users[c] < 2 {
				continue
			}
			size, err := s.snapshotSize(ctx, c.String())
			if err != nil && !errdefs.IsNotFound(err) {
				return err
			}
			list[i].SharedSize += size.own
		}
	}
	return nil
}

// DiskUsage sums up what images take. Items are listed when verbose is set.
func (s *Service) DiskUsage(ctx context.Context, verbose bool) (image.DiskUsage, error) {
	list, err := s.List(ctx, ListOptions{All: true, SharedSize: true})
	if err != nil {
		return image.DiskUsage{}, err
	}
	total, err := s.stored(inNamespace(ctx))
	if err != nil {
		return image.DiskUsage{}, err
	}
	usage := image.DiskUsage{TotalCount: int64(len(list)), TotalSize: total, Reclaimable: total}
	for _, sum := range list {
		if sum.Containers > 0 {
			usage.ActiveCount++
			usage.Reclaimable -= sum.Size - sum.SharedSize
		}
	}
	usage.Reclaimable = max(usage.Reclaimable, 0)
	if verbose {
		usage.Items = list
	}
	return usage, nil
}

// stored is what all blobs and unpacked layers take, in bytes.
func (s *Service) stored(ctx context.Context) (total int64, err error) {
	err = s.content.Walk(ctx, func(info content.Info) error {
		total += info.Size
		return nil
	})
	if err != nil {
		return 0, err
	}
	layers, err := s.storedLayers(ctx)
	return total + layers, err
}
