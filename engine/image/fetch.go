//go:build linux

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	fetchAttempts = 4           // of a layer; what has arrived is kept in between
	retryDelay    = time.Second // doubled with each attempt
	// reportInterval is how often progress is told: what a terminal can show.
	reportInterval = 100 * time.Millisecond
)

// fetchLayer downloads one layer, with progress, and tries again when the connection breaks.
func (p *pull) fetchLayer(ctx context.Context, d ocispec.Descriptor) error {
	id := shortID(d.Digest)
	if ok, err := content.Exists(ctx, p.s.content, d); err == nil && ok {
		if err := p.s.fetch(ctx, p.fetcher, d, nil); err != nil { // takes the lease
			return err
		}
		p.feed.status(id, "Download complete")
		return nil
	}
	report := func(current int64) { p.feed.progress(id, "Downloading", current, d.Size) }
	attempts := p.s.now().Attempts
	for attempt := range attempts {
		err := p.s.fetch(ctx, p.fetcher, d, report)
		if err == nil {
			p.feed.status(id, "Download complete")
			return nil
		}
		if attempt == attempts-1 || !transient(ctx, err) {
			return err
		}
		if err := p.pause(ctx, id, retryDelay<<min(attempt, 5)); err != nil {
			return err
		}
	}
	return nil
}

// pause counts down, as Docker does.
func (p *pull) pause(ctx context.Context, id string, d time.Duration) error {
	for left := d; left > 0; left -= time.Second {
		p.feed.status(id, fmt.Sprintf("Retrying in %d seconds", int(math.Ceil(left.Seconds()))))
		t := time.NewTimer(min(left, time.Second))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
	return nil
}

// transient tells failures of the way from answers.
func transient(ctx context.Context, err error) bool {
	return ctx.Err() == nil && resumable(err)
}

// fetch brings a blob into the store under the context's lease, going on where an earlier fetch stopped. It is no error when
// the blob is here. report, which may be nil, is called with the number of bytes that are here.
func (s *Service) fetch(ctx context.Context, from remotes.Fetcher, d ocispec.Descriptor, report func(int64)) error {
	d.URLs = nil // a manifest must not make the engine ask other hosts
	ref := remotes.MakeRefKey(ctx, d)
	status, _ := s.content.Status(ctx, ref) // none is an offset of zero
	err := remotes.Fetch(ctx, s.content, &reportingFetcher{from, report, d.Size}, d)
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if !errdefs.IsFailedPrecondition(err) {
		return err
	}
	// The bytes are wrong. Had they been kept, each further try would end with them.
	if abort := s.content.Abort(context.WithoutCancel(ctx), ref); abort != nil && !errdefs.IsNotFound(abort) {
		return errors.Join(err, abort)
	}
	if status.Offset > 0 { // perhaps what was kept was wrong, and the registry is right
		return s.fetch(ctx, from, d, report)
	}
	return withKind(errdefs.ErrFailedPrecondition, "filesystem layer verification failed for digest %s: %w", d.Digest, err)
}

// reportingFetcher tells how far a fetch is.
type reportingFetcher struct {
	remotes.Fetcher
	report func(int64)
	size   int64
}

func (f *reportingFetcher) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := f.Fetcher.Fetch(ctx, d)
	if err != nil || f.report == nil {
		return rc, err
	}
	return &reportingReader{ReadCloser: rc, report: f.report, size: f.size}, nil
}

// reportingReader counts what is read. It can seek if what it reads can.
type reportingReader struct {
	io.ReadCloser
	report func(int64)
	size   int64
	offset int64
	last   time.Time
}

func (r *reportingReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.offset += int64(n)
	if now := time.Now(); r.offset >= r.size || now.Sub(r.last) >= reportInterval {
		r.last = now
		r.report(min(r.offset, r.size))
	}
	return n, err
}

func (r *reportingReader) Seek(offset int64, whence int) (int64, error) {
	seeker, ok := r.ReadCloser.(io.Seeker)
	if !ok {
		return 0, fmt.Errorf("resuming a download: %w", errors.ErrUnsupported)
	}
	n, err := seeker.Seek(offset, whence)
	if err == nil {
		r.offset = n
	}
	return n, err
}
