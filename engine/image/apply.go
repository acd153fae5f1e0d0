//go:build linux

package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

func isIndex(d ocispec.Descriptor) bool { return images.IsIndexType(d.MediaType) }

// applyVerified unpacks a layer into a prepared snapshot, and fails when its content is not what the configuration promised.
func (s *Service) applyVerified(ctx context.Context, layer ocispec.Descriptor, mounts []mount.Mount, want digest.Digest, f *feed) error {
	ra, err := s.content.ReaderAt(ctx, ocispec.Descriptor{Digest: layer.Digest})
	if err != nil {
		return fmt.Errorf("reading layer %s: %w", layer.Digest, err)
	}
	defer ra.Close()
	var r io.Reader = content.NewReader(ra)
	if f != nil {
		id := shortID(layer.Digest)
		r = &reportingReader{ReadCloser: io.NopCloser(r), size: layer.Size, report: func(n int64) {
			f.progress(id, "Extracting", n, layer.Size)
		}}
	}
	got, err := s.applyLayer(ctx, r, mounts)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return invalid("failed to register layer: layer %s: %w", layer.Digest, err)
	}
	if got != want {
		return invalid("failed to register layer: layer %s has the content %s, the configuration says %s", layer.Digest, got, want)
	}
	return nil
}

// applyLayer unpacks a change set, compressed or not, and returns the digest of the uncompressed tar.
func (s *Service) applyLayer(ctx context.Context, r io.Reader, mounts []mount.Mount) (digest.Digest, error) {
	plain, err := Decompress(r)
	if err != nil {
		return "", err
	}
	defer plain.Close()
	root, opts, err := applyTarget(mounts)
	if err != nil {
		return "", err
	}
	digester := digest.Canonical.Digester()
	tee := io.TeeReader(s.bounded(ctx, plain, nil), digester.Hash())
	check := &entryCheck{limits: s.limits, space: s.enoughSpace}
	if _, err := archive.Apply(ctx, root, tee, append(opts, archive.WithFilter(check.accept))...); err != nil {
		return "", err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil { // padding after the archive counts
		return "", err
	}
	return digester.Digest(), nil
}

// applyTarget is where to write without mounting anything: the upper folder of an overlay, or the one folder of a snapshot
// that has no parent, or that is a copy of it.
func applyTarget(mounts []mount.Mount) (root string, opts []archive.ApplyOpt, err error) {
	if len(mounts) != 1 {
		return "", nil, fmt.Errorf("a snapshot of %d mounts is not supported", len(mounts))
	}
	m := mounts[0]
	switch m.Type {
	case "bind":
		return m.Source, nil, nil
	case "overlay":
		upper, lower := overlayDirs(m)
		return upper, []archive.ApplyOpt{
			archive.WithConvertWhiteout(archive.OverlayConvertWhiteout), archive.WithParents(lower),
		}, nil
	}
	return "", nil, fmt.Errorf("a snapshot of the type %q is not supported", m.Type)
}

// overlayDirs are the folders of an overlay, the lower ones topmost first.
func overlayDirs(m mount.Mount) (upper string, lower []string) {
	for _, o := range m.Options {
		if v, ok := strings.CutPrefix(o, "upperdir="); ok {
			upper = v
		}
		if v, ok := strings.CutPrefix(o, "lowerdir="); ok {
			lower = strings.Split(v, ":")
		}
	}
	return upper, lower
}

// syncLayers writes unpacked layers to the disk. It precedes the record that makes them an image, so that such a layer never
// has to be unpacked again; see forgetUnfinished for the others.
func (s *Service) syncLayers() error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	if !s.unsynced.Swap(false) {
		return nil
	}
	f, err := os.Open(s.cfg.Root)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		s.unsynced.Store(true)
		return fmt.Errorf("writing layers to the disk: %w", err)
	}
	return nil
}

func escapes(name string) bool {
	clean := path.Clean(name)
	return clean == ".." || strings.HasPrefix(clean, "../")
}
