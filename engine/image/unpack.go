//go:build linux

package image

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// unpackPrefix begins the keys of snapshots that are being filled.
const unpackPrefix = "unpack"

// unpackHooks connect unpacking with the download that it follows. Both may be unset.
type unpackHooks struct {
	ready func(ctx context.Context, layer int) error // waits until the layer's content is here
	feed  *feed
}

// unpacked reports whether the layers of an image are all unpacked.
func (s *Service) unpacked(ctx context.Context, m *manifest) bool {
	if m.top() == "" {
		return true
	}
	_, err := s.layers.Stat(ctx, m.top())
	return err == nil
}

// unpack makes a snapshot of each layer, under the context's lease, and writes them to the disk. Layers that are there already stay; the same layer is not
// unpacked twice at a time.
func (s *Service) unpack(ctx context.Context, m *manifest, h unpackHooks) error {
	parent := ""
	for i, chain := range m.chain() {
		if err := s.unpackLayer(ctx, m, i, parent, chain.String(), h); err != nil {
			return err
		}
		parent = chain.String()
	}
	return s.syncLayers()
}

func (s *Service) unpackLayer(ctx context.Context, m *manifest, i int, parent, chain string, h unpackHooks) error {
	unlock, err := s.unpacking.lock(ctx, chain)
	if err != nil {
		return err
	}
	defer unlock()
	layer := m.manifest.Layers[i]
	key := s.op(unpackPrefix)
	mounts, err := s.layers.Prepare(ctx, key, parent, snapshots.WithLabels(map[string]string{
		snapshots.LabelSnapshotRef: chain, // found to exist, it is put under the lease
	}))
	if errdefs.IsAlreadyExists(err) {
		if h.feed != nil {
			h.feed.status(shortID(layer.Digest), "Already exists")
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("preparing layer %s: %w", layer.Digest, err)
	}
	done := false
	defer func() {
		if !done {
			s.dropSnapshot(ctx, key)
		}
	}()
	if h.ready != nil {
		if err := h.ready(ctx, i); err != nil {
			return err
		}
	}
	s.unsynced.Store(true)
	if err := s.applyVerified(ctx, layer, mounts, m.diffIDs[i], h.feed); err != nil {
		return err
	}
	if err := s.layers.Commit(ctx, chain, key); err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("keeping layer %s: %w", layer.Digest, err)
	}
	done = true
	if h.feed != nil {
		h.feed.status(shortID(layer.Digest), "Pull complete")
	}
	return s.labelContent(ctx, layer.Digest, labels.LabelUncompressed, m.diffIDs[i].String())
}

func (s *Service) dropSnapshot(ctx context.Context, key string) {
	if err := s.layers.Remove(context.WithoutCancel(ctx), key); err != nil && !errdefs.IsNotFound(err) {
		log.G(ctx).WithError(err).WithField("snapshot", key).Warn("removing an unfinished layer")
	}
	s.garbage.kick()
}

func (s *Service) labelContent(ctx context.Context, d digest.Digest, label, value string) error {
	_, err := s.content.Update(ctx, content.Info{Digest: d, Labels: map[string]string{label: value}}, "labels."+label)
	if err != nil {
		return fmt.Errorf("labelling %s: %w", d, err)
	}
	return nil
}

// link makes the image, whose layers are written, hold its parts: the index its manifest, that the configuration and the layers, and the configuration
// the unpacked layers.
func (s *Service) link(ctx context.Context, m *manifest) error {
	if m.desc.Digest != m.target.Digest {
		if err := s.linkIndex(ctx, m.target, maxDepth); err != nil {
			return err
		}
	}
	if err := s.linkManifest(ctx, m.desc.Digest, m.manifest); err != nil {
		return err
	}
	if m.top() == "" {
		return nil
	}
	return s.labelContent(ctx, m.manifest.Config.Digest, "containerd.io/gc.ref.snapshot."+s.snapshotter, m.top())
}

func (s *Service) linkManifest(ctx context.Context, d digest.Digest, m ocispec.Manifest) error {
	refs := map[string]string{"containerd.io/gc.ref.content.config": m.Config.Digest.String()}
	for i, l := range m.Layers {
		refs[fmt.Sprintf("containerd.io/gc.ref.content.l.%d", i)] = l.Digest.String()
	}
	return s.labelAll(ctx, d, refs)
}

// linkIndex links all that an index names, here or not.
func (s *Service) linkIndex(ctx context.Context, d ocispec.Descriptor, depth int) error {
	index, err := s.readIndex(ctx, d)
	if err != nil {
		return err
	}
	refs := map[string]string{}
	for i, m := range index.Manifests {
		refs[fmt.Sprintf("containerd.io/gc.ref.content.m.%d", i)] = m.Digest.String()
		if !s.hasBlobs(ctx, []ocispec.Descriptor{m}) {
			continue
		}
		switch {
		case depth > 0 && isIndex(m):
			err = s.linkIndex(ctx, m, depth-1)
		case isAttestation(m):
			err = s.linkAttestation(ctx, m)
		}
		if err != nil {
			return err
		}
	}
	return s.labelAll(ctx, d.Digest, refs)
}

// linkAttestation keeps what says how an image was made, which comes with archives, for those to whom the image is handed on.
func (s *Service) linkAttestation(ctx context.Context, d ocispec.Descriptor) error {
	var m ocispec.Manifest
	if err := s.readJSON(ctx, d, &m); err != nil {
		return err
	}
	parts := append([]ocispec.Descriptor{m.Config}, m.Layers...)
	if len(m.Layers) > maxLayers {
		return invalid("attestation %s has %d layers; at most %d are supported", d.Digest, len(m.Layers), maxLayers)
	}
	for _, part := range parts {
		if err := checkDescriptor(part, 0); err != nil {
			return fmt.Errorf("attestation %s: %w", d.Digest, err)
		}
	}
	return s.linkManifest(ctx, d.Digest, m)
}

func (s *Service) labelAll(ctx context.Context, d digest.Digest, refs map[string]string) error {
	var paths []string
	for k := range refs {
		paths = append(paths, "labels."+k)
	}
	if len(paths) == 0 {
		return nil
	}
	if _, err := s.content.Update(ctx, content.Info{Digest: d, Labels: refs}, paths...); err != nil {
		return fmt.Errorf("linking %s: %w", d, err)
	}
	return nil
}
