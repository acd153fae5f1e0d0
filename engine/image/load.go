//go:build linux

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/log"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxArchiveEntries bounds the files of an archive: each costs a write to the disk, and a few hundred bytes until the end.
const maxArchiveEntries = 20000

// Load reads the images of an archive, compressed or not, as `docker save` or any tool that writes OCI image layouts makes it: all
// that it has, or the given platforms only. Of an archive that is broken, nothing stays.
func (s *Service) Load(ctx context.Context, tar io.Reader, only []ocispec.Platform, progress Progress) (err error) {
	ctx = inNamespace(ctx)
	ctx, done, err := s.withLease(ctx)
	if err != nil {
		return err
	}
	ended := false
	defer func() {
		if !ended {
			s.discardLease(ctx, done, &err)
		}
	}()
	plain, err := Decompress(tar)
	if err != nil {
		return invalid("loading images: %w", err)
	}
	defer plain.Close()
	store := &archiveStore{Store: s.content, prefix: s.op("load")}
	index, err := archive.ImportIndex(ctx, store, s.bounded(ctx, plain, s.enoughSpace))
	if err != nil {
		return loadError(ctx, err)
	}
	list, err := s.readIndex(ctx, index)
	if err != nil {
		return loadError(ctx, err)
	}
	if len(list.Manifests) == 0 {
		return invalid("loading images: the archive contains none")
	}
	for _, d := range list.Manifests { // all, before the first gets its name
		if err := s.loadContent(ctx, d, only); err != nil {
			return loadError(ctx, err)
		}
	}
	var loaded []string
	for _, d := range list.Manifests {
		shown, err := s.loadName(ctx, d)
		if err != nil {
			return err
		}
		loaded = append(loaded, shown)
	}
	// What an archive has beside its images, such as its index, goes before the client hears that it is done.
	ended = true
	done()
	if err := s.collectNow(ctx); err != nil {
		log.G(ctx).WithError(err).Warn("collecting what is left of an archive")
	}
	for _, shown := range loaded {
		if err := progress(jsonstream.Message{Stream: shown + "\n"}); err != nil {
			return err
		}
	}
	return nil
}

func loadError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var own *fault
	if errors.As(err, &own) {
		return fmt.Errorf("loading images: %w", err)
	}
	return invalid("loading images: invalid archive: %w", err)
}

// loadContent checks that one image of an archive is complete, and unpacks it.
func (s *Service) loadContent(ctx context.Context, d ocispec.Descriptor, only []ocispec.Platform) error {
	if err := checkTarget(d); err != nil {
		return err
	}
	all, err := s.localManifests(ctx, d)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return invalid("the archive lacks content of image %s", d.Digest)
	}
	all = slices.DeleteFunc(all, func(m *manifest) bool { return !wanted(only, m.platform) })
	if len(all) == 0 {
		return notFound("image %s of the archive does not provide the requested platforms (%s)", d.Digest, formatAll(only))
	}
	for _, m := range all {
		if err := s.link(ctx, m); err != nil { // the snapshots follow
			return err
		}
	}
	return s.unpack(ctx, s.best(all, nil), unpackHooks{})
}

// loadName gives an image its name, and returns what the client is shown.
func (s *Service) loadName(ctx context.Context, d ocispec.Descriptor) (shown string, err error) {
	img := images.Image{Target: bare(d), UpdatedAt: time.Now()}
	shown = "Loaded image ID: " + d.Digest.String()
	if named := archiveName(d.Annotations); named != nil {
		img.Name = named.String()
		shown = "Loaded image: " + reference.FamiliarString(named)
	}
	if err := s.name(ctx, img); err != nil {
		return "", err
	}
	s.event(events.ActionLoad, d.Digest.String(), d.Digest.String(), nil)
	return shown, nil
}

// archiveName is the name that an archive gives an image, nil if it gives none: the annotation of the OCI is most often a mere
// tag, which says nothing without a repository.
func archiveName(annotations map[string]string) reference.Named {
	name := annotations[images.AnnotationImageName]
	if ref := annotations[ocispec.AnnotationRefName]; name == "" && strings.ContainsAny(ref, ":/") {
		name = ref
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil
	}
	return reference.TagNameOnly(named)
}

// archiveStore keeps two loads apart that write files of the same name, and holds the files of an OCI layout to the digest
// that is their name.
type archiveStore struct {
	content.Store
	prefix  string
	entries atomic.Int64
}

func (a *archiveStore) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var o content.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	if a.entries.Add(1) > maxArchiveEntries {
		return nil, invalid("the archive has more than %d files", maxArchiveEntries)
	}
	w, err := a.Store.Writer(ctx, append(opts, content.WithRef(a.prefix+"-"+o.Ref))...)
	if err != nil {
		return nil, err
	}
	if want, ok := blobDigest(strings.TrimPrefix(o.Ref, "tar-")); ok {
		return &namedBlob{Writer: w, want: want}, nil
	}
	return w, nil
}

func blobDigest(name string) (digest.Digest, bool) {
	algorithm, hex, ok := strings.Cut(strings.TrimPrefix(name, "blobs/"), "/")
	d := digest.Digest(algorithm + ":" + hex)
	return d, ok && strings.HasPrefix(name, "blobs/") && d.Validate() == nil
}

type namedBlob struct {
	content.Writer
	want digest.Digest
}

func (b *namedBlob) Commit(ctx context.Context, size int64, _ digest.Digest, opts ...content.Opt) error {
	if got := b.Digest(); got != b.want && b.want.Algorithm() == got.Algorithm() {
		return invalid("the file blobs/%s/%s has the digest %s", b.want.Algorithm(), b.want.Encoded(), got)
	}
	return b.Writer.Commit(ctx, size, b.want, opts...)
}
