//go:build linux

package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/google/renameio/v2"
	"github.com/opencontainers/go-digest"
)

// collectDelay lets several removals share one collection: it is short against what freed space is waited for, and long
// against the removal of a container.
const collectDelay = 500 * time.Millisecond

// collector removes what nothing refers to any more: at once when asked, soon after a kick.
type collector struct {
	db *metadata.DB
	// release lets go of what is held for containers that are gone, and reports whether there was any.
	release func(context.Context) (bool, error)
	kicks   chan struct{}
	quit    chan struct{}
	done    sync.WaitGroup
	dirty   atomic.Bool // there is something to collect, apart from what release may find
	orphans atomic.Bool // there may be layers on the disk that no record knows: after a crash or a failed write
	// touch has the collection compare the disk with the records, which it does only after a snapshot was removed.
	touch func(context.Context) error

	mu     sync.Mutex // held while collecting
	closed bool       // guarded by mu
}

func collect(db *metadata.DB, release func(context.Context) (bool, error), touch func(context.Context) error) *collector {
	c := &collector{db: db, release: release, touch: touch, kicks: make(chan struct{}, 1), quit: make(chan struct{})}
	c.done.Go(c.loop)
	return c
}

// kick says that something was removed.
func (c *collector) kick() {
	c.dirty.Store(true)
	c.look()
}

// look says that something may be released.
func (c *collector) look() {
	select {
	case c.kicks <- struct{}{}:
	default:
	}
}

func (c *collector) loop() {
	for {
		select {
		case <-c.kicks:
		case <-c.quit:
			return
		}
		t := time.NewTimer(collectDelay)
		select {
		case <-t.C:
		case <-c.quit:
			t.Stop()
			return
		}
		if err := c.collect(context.Background(), false); err != nil {
			log.L.WithError(err).Warn("collecting unused layers")
		}
	}
}

// run collects now. It is not interrupted: half a collection frees half the space. Nor does it run under the lease of who asks for
// it, which may have ended.
func (c *collector) run(context.Context) error {
	return c.collect(context.Background(), true)
}

func (c *collector) collect(ctx context.Context, force bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	dirty := c.dirty.Swap(false)
	released, err := c.release(inNamespace(ctx))
	if err != nil || !force && !dirty && !released {
		return err
	}
	orphans := c.orphans.Swap(false)
	if _, err := c.db.GarbageCollect(ctx); err != nil || !orphans {
		return err
	}
	if err := c.touch(inNamespace(ctx)); err != nil { // now that there is space
		return err
	}
	_, err = c.db.GarbageCollect(ctx)
	return err
}

func (c *collector) stop() {
	close(c.quit)
	c.done.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

const (
	leaseKind     = "berth.lease" // label of leases: what they are for
	leasePull     = "pull"        // outlives a pull that was cut off, so that the next one goes on from there
	leaseWork     = "work"        // means nothing after a crash
	resumableTime = 24 * time.Hour
)

// withLease protects what is made under the returned context until done is called.
func (s *Service) withLease(ctx context.Context) (_ context.Context, done func(), err error) {
	l, err := s.leases.Create(ctx, leases.WithID(s.op("work")), leases.WithLabel(leaseKind, leaseWork))
	if err != nil {
		return nil, nil, err
	}
	return leases.WithLease(ctx, l.ID), func() { s.endLease(ctx, l.ID) }, nil
}

func (s *Service) endLease(ctx context.Context, id string) {
	if err := s.leases.Delete(context.WithoutCancel(ctx), leases.Lease{ID: id}); err != nil {
		log.G(ctx).WithError(err).WithField("lease", id).Warn("ending a lease")
	}
}

// discardLease ends the lease of an operation, and frees at once what was made under it if the operation has failed.
func (s *Service) discardLease(ctx context.Context, done func(), failed *error) {
	done()
	s.garbage.kick()
	if *failed != nil {
		s.sweep(ctx)
	}
}

// sweep frees what a failed operation has left.
func (s *Service) sweep(ctx context.Context) {
	s.garbage.orphans.Store(true)
	if err := s.garbage.run(ctx); err != nil {
		log.G(ctx).WithError(err).Warn("collecting what a failed operation left")
	}
}

// touchLayers makes and removes a snapshot.
func (s *Service) touchLayers(ctx context.Context) error {
	key := s.op("touch")
	if _, err := s.layers.Prepare(ctx, key, ""); err != nil {
		return err
	}
	return s.layers.Remove(ctx, key)
}

// releaseUnnamed lets go of the layers of images that have neither a container nor a name.
func (s *Service) releaseUnnamed(ctx context.Context) (bool, error) {
	all, err := s.images.List(ctx)
	if err != nil {
		return false, err
	}
	named := map[digest.Digest]bool{}
	for _, img := range all {
		descs, err := s.imageDescriptors(ctx, img.Target, maxDepth)
		if skipMissing(err) != nil {
			return false, err
		}
		for _, d := range descs {
			named[d.Digest] = true
		}
	}
	return s.roots.release(ctx, named)
}

// recover ends the leases of operations that a crash cut off.
func (s *Service) recover(ctx context.Context) error {
	work, err := s.leases.List(ctx, fmt.Sprintf("labels.%q==%s", leaseKind, leaseWork))
	if err != nil {
		return err
	}
	for _, l := range work {
		if err := s.leases.Delete(ctx, l); err != nil {
			return err
		}
	}
	if err := s.forgetUnfinished(ctx); err != nil {
		return err
	}
	if err := s.dropNamelessDownloads(); err != nil {
		return err
	}
	// A layer's folder gets its number before the record that uses it up: left by a crash, it is in the way of the next layer.
	if disk, ok := s.layersDisk.(snapshots.Cleaner); ok {
		if err := disk.Cleanup(ctx); err != nil && !errdefs.IsNotImplemented(err) && !errdefs.IsNotFound(err) { // not found: nothing was ever unpacked
			return err
		}
	}
	return s.unmountStale()
}

// dropNamelessDownloads removes what a crash left of downloads that did not yet have their name, by which alone the store finds them.
func (s *Service) dropNamelessDownloads() error {
	dir := filepath.Join(s.cfg.Root, "content", "ingest")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, err := os.ReadFile(filepath.Join(dir, e.Name(), "ref"))
		if err == nil && len(name) > 0 {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// forgetUnfinished drops the half unpacked layers of pulls that were cut off, and after a reboot all that they have unpacked:
// what a power cut has left of it is unknown. Downloads stay: they are verified when they are used.
func (s *Service) forgetUnfinished(ctx context.Context) error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	file := filepath.Join(s.cfg.Root, "boot-id")
	last, err := os.ReadFile(file)
	rebooted := err != nil || !bytes.Equal(last, boot)
	pulls, err := s.leases.List(ctx)
	if err != nil {
		return err
	}
	for _, l := range pulls {
		if err := s.unleaseLayers(ctx, l, rebooted); err != nil {
			return err
		}
	}
	if !rebooted {
		return nil
	}
	if _, err := s.db.GarbageCollect(ctx); err != nil {
		return err
	}
	return renameio.WriteFile(file, boot, 0o600)
}

func (s *Service) unleaseLayers(ctx context.Context, l leases.Lease, finished bool) error {
	all, err := s.leases.ListResources(ctx, l)
	if err != nil {
		return err
	}
	for _, r := range all {
		if !strings.HasPrefix(r.Type, "snapshots/") || !finished && !strings.HasPrefix(r.ID, unpackPrefix) {
			continue
		}
		if err := s.leases.DeleteResource(ctx, l, r); err != nil {
			return err
		}
	}
	return nil
}
