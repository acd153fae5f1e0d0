//go:build linux

package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Bounds of what an image may consist of. What comes from a registry or an archive is refused beyond them.
const (
	maxManifest  = 4 << 20 // bytes of a manifest, index or configuration; as the distribution specification has it
	maxManifests = 1000    // in an index
	// maxLayers is twice what Docker builds. The mount data of overlay is one page, and its kernel limit 500 layers.
	maxLayers = 256
	maxDepth  = 3 // of indexes in indexes
)

// manifest is one image for one platform, parsed and checked. It is not changed after it was made.
type manifest struct {
	target   ocispec.Descriptor // what names refer to: desc, or an index that contains it
	desc     ocispec.Descriptor
	manifest ocispec.Manifest
	config   []byte // JSON
	platform ocispec.Platform
	diffIDs  []digest.Digest
}

// chain are the snapshots of the layers, lowest first.
func (m *manifest) chain() []digest.Digest { return identity.ChainIDs(slices.Clone(m.diffIDs)) }

// top is the snapshot that a root filesystem stands on; empty for an image without layers.
func (m *manifest) top() string {
	if len(m.diffIDs) == 0 {
		return ""
	}
	return identity.ChainID(m.diffIDs).String()
}

// image parses the configuration anew: callers change what they get.
func (m *manifest) image() (dockerspec.DockerOCIImage, error) {
	var c dockerspec.DockerOCIImage
	if err := json.Unmarshal(m.config, &c); err != nil {
		return c, fmt.Errorf("reading the configuration %s: %w", m.manifest.Config.Digest, err)
	}
	return c, nil
}

// manifests caches what was parsed. Content is named by its digest and never goes stale, but it goes: forget then.
type manifests struct {
	mu sync.Mutex // guards m
	m  map[string]*manifest
}

const maxCached = 512

func (c *manifests) get(key string) *manifest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m[key]
}

func (c *manifests) put(key string, m *manifest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxCached {
		c.m = map[string]*manifest{}
	}
	c.m[key] = m
}

func (c *manifests) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m = nil
}

// manifest chooses among the manifests of an image that are here: the best for the platform, which must be that one exactly
// when it is given, and this host's by preference when it is nil. The error is errdefs.ErrNotFound when there is none.
func (s *Service) manifest(ctx context.Context, target ocispec.Descriptor, p *ocispec.Platform) (*manifest, error) {
	key := target.Digest.String()
	if p != nil {
		key += " " + platforms.FormatAll(platforms.Normalize(*p))
	}
	if m := s.cache.get(key); m != nil {
		return m, nil
	}
	all, err := s.localManifests(ctx, target)
	if err != nil {
		return nil, err
	}
	m := s.best(all, p)
	if m == nil {
		return nil, noPlatform(target.Digest.String(), p)
	}
	s.cache.put(key, m)
	return m, nil
}

func (s *Service) best(all []*manifest, p *ocispec.Platform) *manifest {
	match := s.host
	if p != nil {
		match = platforms.OnlyStrict(*p)
	}
	var best *manifest
	for _, m := range all {
		if match.Match(m.platform) && (best == nil || match.Less(m.platform, best.platform)) {
			best = m
		}
	}
	if best == nil && p == nil && len(all) > 0 {
		best = all[0]
	}
	return best
}

// localManifests reads the images of an image or index whose content is all here.
func (s *Service) localManifests(ctx context.Context, target ocispec.Descriptor) ([]*manifest, error) {
	descs, err := s.imageDescriptors(ctx, target, maxDepth)
	if err != nil {
		return nil, err
	}
	var all []*manifest
	for _, d := range descs {
		m, err := s.readManifest(ctx, target, d)
		if errdefs.IsNotFound(err) {
			continue // of another platform, or an attestation
		}
		if err != nil {
			return nil, err
		}
		if s.hasBlobs(ctx, m.manifest.Layers) {
			all = append(all, m)
		}
	}
	return all, nil
}

// imageDescriptors flattens indexes to the manifests of images, leaving out attestations.
func (s *Service) imageDescriptors(ctx context.Context, d ocispec.Descriptor, depth int) ([]ocispec.Descriptor, error) {
	switch {
	case images.IsManifestType(d.MediaType):
		return []ocispec.Descriptor{d}, nil
	case !images.IsIndexType(d.MediaType):
		return nil, invalid("%s is of the unsupported type %q", d.Digest, d.MediaType)
	case depth == 0:
		return nil, invalid("index %s: more than %d indexes in one another", d.Digest, maxDepth)
	}
	index, err := s.readIndex(ctx, d)
	if err != nil {
		return nil, err
	}
	var all []ocispec.Descriptor
	for _, child := range index.Manifests {
		if isAttestation(child) || !images.IsManifestType(child.MediaType) && !images.IsIndexType(child.MediaType) {
			continue
		}
		if ok, err := content.Exists(ctx, s.content, child); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		found, err := s.imageDescriptors(ctx, child, depth-1)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func isAttestation(d ocispec.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" ||
		d.Platform != nil && d.Platform.OS == "unknown"
}

func (s *Service) hasBlobs(ctx context.Context, descs []ocispec.Descriptor) bool {
	return !slices.ContainsFunc(descs, func(d ocispec.Descriptor) bool {
		ok, err := content.Exists(ctx, s.content, d)
		return err != nil || !ok
	})
}

// readManifest reads and checks one manifest and its configuration.
func (s *Service) readManifest(ctx context.Context, target, d ocispec.Descriptor) (*manifest, error) {
	m := &manifest{target: target, desc: d}
	if err := s.readJSON(ctx, d, &m.manifest); err != nil {
		return nil, err
	}
	if err := checkManifest(d, m.manifest); err != nil {
		return nil, err
	}
	raw, err := s.readBlob(ctx, m.manifest.Config)
	if err != nil {
		return nil, err
	}
	m.config = raw
	return m, m.parseConfig()
}

// parseConfig checks the configuration against the manifest.
func (m *manifest) parseConfig() error {
	var c ocispec.Image
	if err := json.Unmarshal(m.config, &c); err != nil {
		return invalid("configuration %s is not JSON of an image: %w", m.manifest.Config.Digest, err)
	}
	if len(c.RootFS.DiffIDs) != len(m.manifest.Layers) {
		return invalid("configuration %s describes %d layers, the manifest %s has %d",
			m.manifest.Config.Digest, len(c.RootFS.DiffIDs), m.desc.Digest, len(m.manifest.Layers))
	}
	for _, id := range c.RootFS.DiffIDs {
		if err := id.Validate(); err != nil {
			return invalid("configuration %s: layer %q: %w", m.manifest.Config.Digest, id, err)
		}
	}
	m.diffIDs = c.RootFS.DiffIDs
	m.platform = platforms.Normalize(c.Platform)
	if m.platform.OS == "" && m.desc.Platform != nil {
		m.platform = platforms.Normalize(*m.desc.Platform)
	}
	return nil
}

func checkManifest(d ocispec.Descriptor, m ocispec.Manifest) error {
	if len(m.Layers) > maxLayers {
		return invalid("manifest %s has %d layers; at most %d are supported", d.Digest, len(m.Layers), maxLayers)
	}
	if !images.IsConfigType(m.Config.MediaType) {
		return invalid("manifest %s is not of a container image: its configuration is of the type %q", d.Digest, m.Config.MediaType)
	}
	if err := checkDescriptor(m.Config, maxManifest); err != nil {
		return fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	for _, l := range m.Layers {
		if !images.IsLayerType(l.MediaType) {
			return invalid("manifest %s: layer %s is of the unsupported type %q", d.Digest, l.Digest, l.MediaType)
		}
		if err := checkDescriptor(l, 0); err != nil {
			return fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
	}
	return nil
}

// checkDescriptor checks what a manifest says of a blob. limit is in bytes; zero means that the disk is the limit.
func checkDescriptor(d ocispec.Descriptor, limit int64) error {
	if err := d.Digest.Validate(); err != nil {
		return invalid("digest %q: %w", d.Digest, err)
	}
	if d.Size <= 0 {
		return invalid("%s: invalid size %d", d.Digest, d.Size)
	}
	if limit > 0 && d.Size > limit {
		return invalid("%s is %d bytes long; at most %d are supported", d.Digest, d.Size, limit)
	}
	return nil
}

func (s *Service) readIndex(ctx context.Context, d ocispec.Descriptor) (ocispec.Index, error) {
	var index ocispec.Index
	if err := s.readJSON(ctx, d, &index); err != nil {
		return index, err
	}
	if len(index.Manifests) > maxManifests {
		return index, invalid("index %s has %d manifests; at most %d are supported", d.Digest, len(index.Manifests), maxManifests)
	}
	for _, m := range index.Manifests {
		if err := checkDescriptor(m, maxManifest); err != nil {
			return index, fmt.Errorf("index %s: %w", d.Digest, err)
		}
	}
	return index, nil
}

func (s *Service) readJSON(ctx context.Context, d ocispec.Descriptor, v any) error {
	raw, err := s.readBlob(ctx, d)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return invalid("%s is not the JSON of a %s: %w", d.Digest, d.MediaType, err)
	}
	return nil
}

// readBlob reads a small blob.
func (s *Service) readBlob(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, invalid("digest %q: %w", d.Digest, err)
	}
	ra, err := s.content.ReaderAt(ctx, ocispec.Descriptor{Digest: d.Digest})
	if err != nil {
		return nil, err
	}
	defer ra.Close()
	if ra.Size() > maxManifest {
		return nil, invalid("%s is %d bytes long; at most %d are supported", d.Digest, ra.Size(), maxManifest)
	}
	raw := make([]byte, ra.Size())
	if _, err := io.ReadFull(content.NewReader(ra), raw); err != nil {
		return nil, fmt.Errorf("reading %s: %w", d.Digest, err)
	}
	return raw, nil
}
