//go:build linux

package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/klauspost/compress/gzip"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/getberth/berth/engine/image/changes"
)

// Download opens a URL for [Service.Import].
func (s *Service) Download(ctx context.Context, source string) (io.ReadCloser, error) {
	return s.now().registries.Download(ctx, source)
}

// Import makes an image of one tar of a root filesystem. changes are Dockerfile instructions that set its configuration.
func (s *Service) Import(ctx context.Context, tar io.Reader, ref, message string, lines []string, platform *ocispec.Platform) (id string, err error) {
	ctx = inNamespace(ctx)
	name, err := targetName(ref)
	if err != nil {
		return "", err
	}
	c := dockerspec.DockerOCIImage{}
	if err := changes.Apply(&c.Config, lines); err != nil {
		return "", err
	}
	c.Platform = s.cfg.Platform
	if platform != nil {
		c.Platform = platforms.Normalize(*platform)
	}
	ctx, done, err := s.withLease(ctx)
	if err != nil {
		return "", err
	}
	defer s.discardLease(ctx, done, &err)
	plain, err := Decompress(tar)
	if err != nil {
		return "", invalid("importing: %w", err)
	}
	defer plain.Close()
	layer, diffID, err := s.writeLayer(ctx, func(w io.Writer) error { _, err := io.Copy(w, s.bounded(ctx, plain, nil)); return err })
	if err != nil {
		return "", fmt.Errorf("importing: %w", err)
	}
	now := time.Now().UTC()
	c.Created = &now
	c.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}}
	c.History = []ocispec.History{{Created: &now, Comment: message}}
	id, err = s.build(ctx, name, c, []ocispec.Descriptor{layer})
	if err != nil {
		return "", fmt.Errorf("importing: %w", err)
	}
	s.event(events.ActionImport, id, id, nil)
	return id, nil
}

// targetName is the full name for a new image; empty for none.
func targetName(ref string) (string, error) {
	if ref == "" {
		return "", nil
	}
	named, err := parseTarget(ref)
	if err != nil {
		return "", err
	}
	if reference.FamiliarName(named) == "sha256" {
		return "", invalid("refusing to create an ambiguous tag using digest algorithm as name")
	}
	return named.String(), nil
}

// writeLayer stores what fill writes, a tar, compressed. It returns the blob and the digest of the tar.
func (s *Service) writeLayer(ctx context.Context, fill func(io.Writer) error) (ocispec.Descriptor, digest.Digest, error) {
	ref := s.op("layer")
	w, err := content.OpenWriter(ctx, s.content, content.WithRef(ref))
	if err != nil {
		return ocispec.Descriptor{}, "", err
	}
	defer w.Close()
	digester := digest.Canonical.Digester()
	zip := gzip.NewWriter(w)
	if err := fill(io.MultiWriter(zip, digester.Hash())); err != nil {
		return ocispec.Descriptor{}, "", err
	}
	if err := zip.Close(); err != nil {
		return ocispec.Descriptor{}, "", err
	}
	status, err := w.Status()
	if err != nil {
		return ocispec.Descriptor{}, "", err
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: w.Digest(), Size: status.Offset}
	label := content.WithLabels(map[string]string{labels.LabelUncompressed: digester.Digest().String()})
	if err := w.Commit(ctx, d.Size, d.Digest, label); err != nil && !errdefs.IsAlreadyExists(err) {
		return ocispec.Descriptor{}, "", err
	}
	return d, digester.Digest(), nil
}

// build stores an image of layers that are here, unpacks it, and gives it a name unless that is empty.
func (s *Service) build(ctx context.Context, name string, c dockerspec.DockerOCIImage, layers []ocispec.Descriptor) (id string, err error) {
	for i := range layers {
		layers[i] = ociLayer(layers[i])
	}
	config, err := s.writeJSON(ctx, ocispec.MediaTypeImageConfig, c)
	if err != nil {
		return "", err
	}
	target, err := s.writeJSON(ctx, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers,
	})
	if err != nil {
		return "", err
	}
	m, err := s.readManifest(ctx, target, target)
	if err != nil {
		return "", err
	}
	if err := s.unpack(ctx, m, unpackHooks{}); err != nil {
		return "", err
	}
	if err := s.link(ctx, m); err != nil {
		return "", err
	}
	return target.Digest.String(), s.name(ctx, images.Image{Name: name, Target: target, UpdatedAt: time.Now()})
}

// ociLayer names Docker's types of layers as an OCI manifest does.
func ociLayer(d ocispec.Descriptor) ocispec.Descriptor {
	switch d.MediaType {
	case images.MediaTypeDockerSchema2Layer:
		d.MediaType = ocispec.MediaTypeImageLayer
	case images.MediaTypeDockerSchema2LayerGzip:
		d.MediaType = ocispec.MediaTypeImageLayerGzip
	case images.MediaTypeDockerSchema2LayerZstd:
		d.MediaType = ocispec.MediaTypeImageLayerZstd
	}
	return d
}

func (s *Service) writeJSON(ctx context.Context, mediaType string, v any) (ocispec.Descriptor, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(raw) > maxManifest {
		return ocispec.Descriptor{}, invalid("the configuration is %d bytes long; at most %d are supported", len(raw), maxManifest)
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return d, content.WriteBlob(ctx, s.content, s.op("json"), bytes.NewReader(raw), d)
}
