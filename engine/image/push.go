//go:build linux

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/getberth/berth/engine/image/remote"
)

// parallelUploads is how many blobs are sent at a time, as in Docker.
const parallelUploads = 5

// Push sends an image to the registry of its name. A name without a tag stands for all tags that are here. Of an index whose
// platforms are not all here, the platform's image is sent.
func (s *Service) Push(ctx context.Context, ref string, platform *ocispec.Platform, auth *registry.AuthConfig, progress Progress) error {
	ctx = inNamespace(ctx)
	named, err := parseName(ref)
	if err != nil {
		return err
	}
	if _, ok := named.(reference.Digested); ok {
		return invalid("cannot push a digest reference")
	}
	list, err := s.toPush(ctx, named)
	if err != nil {
		return err
	}
	return s.pulls.do(ctx, s.op("push"), progress, func(ctx context.Context, f *feed) error {
		f.status("", fmt.Sprintf("The push refers to repository [%s]", named.Name()))
		session := s.now().registries.Session(ctx, reference.Domain(named), auth)
		defer session.Close()
		for _, img := range list {
			p := &push{s: s, session: session, img: img, feed: f}
			if err := p.run(ctx, platform); err != nil {
				return pushError(img.Name, err)
			}
		}
		return nil
	})
}

func (s *Service) toPush(ctx context.Context, named reference.Named) ([]images.Image, error) {
	if reference.IsNameOnly(named) {
		all, err := s.repository(ctx, named)
		if err == nil && len(all) == 0 {
			err = notFound("An image does not exist locally with the tag: %s", reference.FamiliarName(named))
		}
		return all, err
	}
	img, err := s.images.Get(ctx, named.String())
	if errdefs.IsNotFound(err) {
		return nil, notFound("tag does not exist: %s", reference.FamiliarString(named))
	}
	return []images.Image{img}, err
}

// push is the push of one tag.
type push struct {
	s       *Service
	session *remote.Session
	img     images.Image
	feed    *feed

	mu    sync.Mutex // guards blobs
	blobs map[digest.Digest]ocispec.Descriptor
}

func (p *push) run(ctx context.Context, platform *ocispec.Platform) error {
	ctx, done, err := p.s.withLease(ctx)
	if err != nil {
		return err
	}
	defer done()
	target, err := p.target(ctx, platform)
	if err != nil {
		return err
	}
	if err := p.s.hold(ctx, target); err != nil {
		return err
	}
	named, err := reference.ParseNormalizedNamed(p.img.Name)
	if err != nil {
		return err
	}
	pusher, err := p.session.Resolver().Pusher(ctx, p.img.Name)
	if err != nil {
		return err
	}
	stop := p.follow()
	err = remotes.PushContent(ctx, pusher, target, p.s.content, semaphore.NewWeighted(int64(p.s.now().Uploads)), platforms.All, p.watch)
	stop()
	if err != nil {
		return err
	}
	tag := named.(reference.Tagged).Tag()
	p.feed.status("", fmt.Sprintf("%s: digest: %s size: %d", tag, target.Digest, target.Size))
	if err := p.aux(tag, target); err != nil {
		return err
	}
	familiarRef := reference.FamiliarString(named)
	p.s.event(events.ActionPush, familiarRef, reference.FamiliarName(named), nil)
	return nil
}

// aux tells programs what was pushed.
func (p *push) aux(tag string, target ocispec.Descriptor) error {
	raw, err := json.Marshal(struct {
		Tag    string
		Digest string
		Size   int64
	}{tag, target.Digest.String(), target.Size})
	if err != nil {
		return err
	}
	p.feed.send(jsonstream.Message{Progress: &jsonstream.Progress{}, Aux: (*json.RawMessage)(&raw)})
	return nil
}

// target is what can be sent of the image.
func (p *push) target(ctx context.Context, platform *ocispec.Platform) (ocispec.Descriptor, error) {
	if platform == nil && p.complete(ctx, p.img.Target, maxDepth) {
		return p.img.Target, nil
	}
	m, err := p.s.manifest(ctx, p.img.Target, platform)
	if errdefs.IsNotFound(err) {
		return p.img.Target, noPlatform(familiar(p.img), platform)
	}
	if err != nil {
		return p.img.Target, err
	}
	if platform == nil {
		p.feed.status("", "Not all multiplatform-content is present and only the available single-platform image was pushed")
	}
	return bare(m.desc), nil
}

func (p *push) complete(ctx context.Context, d ocispec.Descriptor, depth int) bool {
	if !p.s.hasBlobs(ctx, []ocispec.Descriptor{d}) || depth < 0 {
		return false
	}
	children, err := images.Children(ctx, p.s.content, d)
	if err != nil {
		return false
	}
	for _, c := range children {
		if !p.complete(ctx, c, depth-1) {
			return false
		}
	}
	return true
}

// watch notes the layers that are sent.
func (p *push) watch(h images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if images.IsLayerType(d.MediaType) {
			p.mu.Lock()
			if p.blobs == nil {
				p.blobs = map[digest.Digest]ocispec.Descriptor{}
			}
			p.blobs[d.Digest] = d
			p.mu.Unlock()
			p.feed.status(shortID(d.Digest), "Preparing")
		}
		return h.Handle(ctx, d)
	})
}

// follow tells how far the uploads are until it is stopped. The registry client can only be asked.
func (p *push) follow() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(reportInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.report()
			case <-quit:
				p.report()
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}

func (p *push) report() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.blobs {
		status, err := p.session.Tracker.GetStatus(remotes.MakeRefKey(context.Background(), d))
		id := shortID(d.Digest)
		switch {
		case err != nil:
			continue
		case status.Exists:
			p.feed.status(id, "Layer already exists")
		case status.Committed:
			p.feed.status(id, "Pushed")
		default:
			p.feed.progress(id, "Pushing", status.Offset, d.Size)
			continue
		}
		delete(p.blobs, d.Digest)
	}
}

func pushError(name string, err error) error {
	var own *fault
	reason := remote.Reason(err)
	switch {
	case errors.Is(err, context.Canceled) || errors.As(err, &own):
		return err
	case remote.IsDenied(err):
		if reason == "" {
			reason = "denied: requested access to the resource is denied"
		}
		return withKind(errdefs.ErrPermissionDenied, "%s", reason)
	case reason != "":
		return &fault{kind: kindOf(err), cause: fmt.Errorf("pushing %s: error from registry: %s", name, reason)}
	}
	return &fault{kind: kindOf(err), cause: fmt.Errorf("pushing %s: %w", name, err)}
}

// Login checks credentials against the registry that they name.
func (s *Service) Login(ctx context.Context, auth registry.AuthConfig) (registry.AuthResponse, error) {
	return s.now().registries.Login(ctx, auth)
}
