//go:build linux

package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/getberth/berth/engine/image/remote"
)

// parallelDownloads is how many layers of one image are fetched at a time, as in Docker.
const parallelDownloads = 3

// Pull fetches an image and unpacks it. A reference without tag and digest stands for all tags. Clients that pull the same at
// the same time share one pull, which ends when the last of them has gone; what was fetched by then is used by the next.
func (s *Service) Pull(ctx context.Context, ref string, platform *ocispec.Platform, auth *registry.AuthConfig, progress Progress) error {
	ctx = inNamespace(ctx)
	named, err := parseName(ref)
	if err != nil {
		return err
	}
	if !reference.IsNameOnly(named) {
		return s.pullShared(ctx, named, platform, auth, progress)
	}
	session := s.now().registries.Session(ctx, reference.Domain(named), auth)
	tags, err := session.Tags(ctx, named)
	session.Close()
	if err != nil {
		return pullError(named, err)
	}
	for _, tag := range tags {
		tagged, err := reference.WithTag(named, tag)
		if err != nil {
			return invalid("pulling all of %s: the registry lists the invalid tag %q", ref, tag)
		}
		if err := s.pullShared(ctx, tagged, platform, auth, progress); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) pullShared(ctx context.Context, named reference.Named, platform *ocispec.Platform, auth *registry.AuthConfig, progress Progress) error {
	key := pullKey(named, platform, auth)
	return s.pulls.do(ctx, key, progress, func(ctx context.Context, f *feed) error {
		p := &pull{s: s, ref: named, platform: platform, auth: auth, feed: f}
		return p.run(ctx, key)
	})
}

// pullKey tells pulls apart. Who has other credentials does not share a pull. It is used as a lease's name, too, so secrets go
// into it as a hash only.
func pullKey(named reference.Named, platform *ocispec.Platform, auth *registry.AuthConfig) string {
	raw, err := json.Marshal([]any{named.String(), platform, auth})
	if err != nil { // plain data always encodes
		raw = []byte(named.String())
	}
	sum := sha256.Sum256(raw)
	return "pull-" + hex.EncodeToString(sum[:])
}

// pull is one pull of one image.
type pull struct {
	s        *Service
	ref      reference.Named
	platform *ocispec.Platform // nil for the host's
	auth     *registry.AuthConfig
	feed     *feed
	fetcher  remotes.Fetcher
}

func (p *pull) run(ctx context.Context, key string) error {
	session := p.s.now().registries.Session(ctx, reference.Domain(p.ref), p.auth)
	defer session.Close()
	resolver := session.Resolver()
	_, target, err := resolver.Resolve(ctx, p.ref.String())
	if err != nil {
		return pullError(p.ref, err)
	}
	if p.fetcher, err = resolver.Fetcher(ctx, p.ref.String()); err != nil {
		return pullError(p.ref, err)
	}
	leased, err := p.s.resumeLease(ctx, key)
	if err != nil {
		return err
	}
	newer, err := p.fetchImage(leased, target)
	if err != nil {
		p.s.settleLease(ctx, key, err)
		return contentError(p.ref, err)
	}
	p.s.endLease(ctx, key)
	p.s.garbage.kick()
	familiarRef := reference.FamiliarString(p.ref)
	p.feed.status("", "Digest: "+target.Digest.String())
	if newer {
		p.feed.status("", "Status: Downloaded newer image for "+familiarRef)
	} else {
		p.feed.status("", "Status: Image is up to date for "+familiarRef)
	}
	p.s.event(events.ActionPull, familiarRef, reference.FamiliarName(p.ref), nil)
	return nil
}

// fetchImage reports whether the name means another image than before.
func (p *pull) fetchImage(ctx context.Context, target ocispec.Descriptor) (newer bool, err error) {
	if err := checkTarget(target); err != nil {
		return false, err
	}
	m, err := p.fetchManifest(ctx, target)
	if err != nil {
		return false, err
	}
	p.feed.status(tagOrDigest(p.ref), "Pulling from "+reference.Path(p.ref))
	if err := p.fetchLayers(ctx, m); err != nil {
		return false, err
	}
	if err := p.s.link(ctx, m); err != nil {
		return false, err
	}
	old, err := p.s.images.Get(ctx, p.ref.String())
	newer = err != nil || old.Target.Digest != target.Digest
	return newer, p.s.name(ctx, images.Image{Name: p.ref.String(), Target: bare(target), UpdatedAt: time.Now()})
}

func checkTarget(d ocispec.Descriptor) error {
	if !images.IsManifestType(d.MediaType) && !images.IsIndexType(d.MediaType) {
		return invalid("%s is of the unsupported type %q", d.Digest, d.MediaType)
	}
	return checkDescriptor(d, maxManifest)
}

// bare is a descriptor without what only its container says of it.
func bare(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

func tagOrDigest(ref reference.Named) string {
	switch r := ref.(type) {
	case reference.Digested:
		return r.Digest().String()
	case reference.Tagged:
		return r.Tag()
	}
	return ref.String()
}

// fetchManifest fetches what leads to the layers: indexes, the manifest for the platform, its configuration.
func (p *pull) fetchManifest(ctx context.Context, target ocispec.Descriptor) (*manifest, error) {
	d := target
	for depth := maxDepth; ; depth-- {
		if err := p.s.fetch(ctx, p.fetcher, d, nil); err != nil {
			return nil, err
		}
		if images.IsManifestType(d.MediaType) {
			break
		}
		if depth == 0 {
			return nil, invalid("index %s: more than %d indexes in one another", target.Digest, maxDepth)
		}
		next, err := p.choose(ctx, d)
		if err != nil {
			return nil, err
		}
		d = next
	}
	m := &manifest{target: bare(target), desc: d}
	if err := p.s.readJSON(ctx, d, &m.manifest); err != nil {
		return nil, err
	}
	if err := checkManifest(d, m.manifest); err != nil {
		return nil, err
	}
	if err := p.s.fetch(ctx, p.fetcher, m.manifest.Config, nil); err != nil {
		return nil, err
	}
	var err error
	if m.config, err = p.s.readBlob(ctx, m.manifest.Config); err != nil {
		return nil, err
	}
	if err := m.parseConfig(); err != nil {
		return nil, err
	}
	return m, p.checkPlatform(m)
}

// choose takes the manifest of an index that fits the platform best.
func (p *pull) choose(ctx context.Context, d ocispec.Descriptor) (ocispec.Descriptor, error) {
	index, err := p.s.readIndex(ctx, d)
	if err != nil {
		return d, err
	}
	match := p.matcher()
	var best *ocispec.Descriptor
	for i, m := range index.Manifests {
		known := images.IsManifestType(m.MediaType) || images.IsIndexType(m.MediaType)
		if isAttestation(m) || !known || m.Platform != nil && !match.Match(*m.Platform) {
			continue
		}
		if best == nil || best.Platform == nil || m.Platform != nil && match.Less(*m.Platform, *best.Platform) {
			best = &index.Manifests[i]
		}
	}
	if best == nil {
		return d, notFound("no matching manifest for %s in the manifest list entries", platforms.FormatAll(p.want()))
	}
	return *best, nil
}

func (p *pull) want() ocispec.Platform {
	if p.platform != nil {
		return platforms.Normalize(*p.platform)
	}
	return p.s.cfg.Platform
}

func (p *pull) matcher() platforms.MatchComparer {
	if p.platform != nil {
		return platforms.Only(*p.platform)
	}
	return p.s.host
}

// checkPlatform refuses an image for another platform only if one was asked for: without, a client is warned when it runs it.
func (p *pull) checkPlatform(m *manifest) error {
	if p.platform != nil && m.platform.OS != "" && !p.matcher().Match(m.platform) {
		return noPlatform(reference.FamiliarString(p.ref), p.platform)
	}
	return nil
}

// fetchLayers downloads the layers, a few at a time, and unpacks them in their order while others are still on the way.
func (p *pull) fetchLayers(ctx context.Context, m *manifest) error {
	if p.s.hasBlobs(ctx, m.manifest.Layers) && p.s.unpacked(ctx, m) {
		return p.s.unpack(ctx, m, unpackHooks{}) // takes the lease
	}
	ready := make([]chan struct{}, len(m.manifest.Layers))
	for i, l := range m.manifest.Layers {
		ready[i] = make(chan struct{})
		p.feed.status(shortID(l.Digest), "Pulling fs layer")
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return p.s.unpack(ctx, m, unpackHooks{
			ready: func(ctx context.Context, i int) error { return await(ctx, ready[i]) },
			feed:  p.feed,
		})
	})
	group.Go(func() error {
		downloads, ctx := errgroup.WithContext(ctx)
		downloads.SetLimit(p.s.now().Downloads)
		for i, l := range m.manifest.Layers {
			if ctx.Err() != nil {
				break
			}
			downloads.Go(func() error {
				defer close(ready[i])
				return p.fetchLayer(ctx, l)
			})
		}
		return downloads.Wait()
	})
	return group.Wait()
}

func await(ctx context.Context, ready <-chan struct{}) error {
	select {
	case <-ready:
		return ctx.Err() // a download that failed has cancelled it
	case <-ctx.Done():
		return ctx.Err()
	}
}

func shortID(d digest.Digest) string { return d.Encoded()[:12] }

// resumeLease takes up the lease of an earlier pull that was cut off, or makes one.
func (s *Service) resumeLease(ctx context.Context, id string) (context.Context, error) {
	_, err := s.leases.Create(ctx, leases.WithID(id), leases.WithLabel(leaseKind, leasePull), leases.WithExpiration(resumableTime))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return nil, err
	}
	return leases.WithLease(ctx, id), nil
}

// settleLease keeps what a pull has fetched if another try can go on from there, and else drops it.
func (s *Service) settleLease(ctx context.Context, id string, cause error) {
	if resumable(cause) {
		return
	}
	s.endLease(ctx, id)
	s.sweep(ctx)
}

func resumable(err error) bool {
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	return !full && !errdefs.IsInvalidArgument(err) && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) && !remote.IsDenied(err)
}

// pullError words an error as Docker does, for clients match on the text.
func pullError(ref reference.Named, err error) error {
	name, reason := reference.FamiliarName(ref), remote.Reason(err)
	var own *fault
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &own) && errdefs.IsNotFound(err):
		return err
	case strings.Contains(err.Error(), "rejecting") && errdefs.IsNotFound(err):
		return invalid("pulling %s: the manifest is longer than %d bytes", reference.FamiliarString(ref), maxManifest)
	case remote.IsDenied(err) || errdefs.IsPermissionDenied(err):
		if reason == "" {
			reason = "denied: requested access to the resource is denied"
		}
		return notFound("pull access denied for %s, repository does not exist or may require 'docker login': %s", name, reason)
	case errdefs.IsNotFound(err):
		return notFound("manifest for %s not found: manifest unknown: manifest unknown", reference.FamiliarString(ref))
	case reason != "":
		return &fault{kind: kindOf(err), cause: fmt.Errorf("pulling %s: error from registry: %s", reference.FamiliarString(ref), reason)}
	}
	return &fault{kind: kindOf(err), cause: fmt.Errorf("pulling %s: %w", reference.FamiliarString(ref), err)}
}

// contentError words an error past the first answer of the registry: what is missing then is not the image.
func contentError(ref reference.Named, err error) error {
	var own *fault
	if errdefs.IsNotFound(err) && !errors.As(err, &own) {
		return &fault{kind: errdefs.ErrNotFound, cause: fmt.Errorf("pulling %s: %w", reference.FamiliarString(ref), err)}
	}
	return pullError(ref, err)
}

// kindOf is the kind of an error, unless containerd's kind would make a wrong status of HTTP.
func kindOf(err error) error {
	kind := errdefs.Resolve(err)
	if errdefs.IsFailedPrecondition(kind) || errdefs.IsAlreadyExists(kind) || errdefs.IsUnknown(kind) {
		return errdefs.ErrInternal
	}
	return kind
}
