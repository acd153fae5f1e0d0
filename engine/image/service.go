//go:build linux

package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
)

// Namespace is the one namespace of containerd's stores that the engine uses.
const Namespace = "berth"

// Names of the snapshotters, as `docker info` shows them.
const (
	Overlay = "overlayfs"
	Native  = "native" // copies each layer; where overlay cannot be mounted
)

// openTimeout bounds the wait for another engine to let go of the same root.
const openTimeout = 5 * time.Second

// Events takes what happened; it never blocks.
type Events interface {
	Publish(events.Message)
}

// User is a container that uses an image.
type User struct {
	ID      string // of the container
	Ref     string // what it was created with, as the client gave it
	Running bool
}

// Config says where images live and where they come from. Only Root is required.
type Config struct {
	Root string // holds everything; made when absent
	Settings
	StorageDriver string // "overlayfs" or "overlay2", "native" or "vfs"; empty means what works
	Platform      ocispec.Platform
	UserAgent     string
	Events        Events
	// InUse returns the containers whose image has this id. It may be called at any time after Open, by any goroutine, but
	// never while the service holds a lock. Nil means that there are no containers.
	InUse func(imageID string) []User
}

// Service keeps images and root filesystems. It is safe for concurrent use.
//
// Everything lives in three stores of containerd's: blobs in Root/content, layers in Root/snapshots, and Root/metadata.db,
// which knows what refers to what. What nothing refers to is collected: names, leases and labelled snapshots are roots.
type Service struct {
	cfg         Config
	host        platforms.MatchComparer
	bolt        *bolt.DB
	db          *metadata.DB
	content     content.Store
	images      images.Store
	leases      leases.Manager
	layers      snapshots.Snapshotter
	layersDisk  snapshots.Snapshotter // under layers; closed last
	snapshotter string
	settings    atomic.Pointer[settings]
	mountDir    string // for mounts that do not outlive a call
	limits      layerLimits

	unpacking keyed     // by chain id
	pulls     flights   // of concurrent clients that want the same
	cache     manifests // parsed
	sizes     sizes     // of committed snapshots
	roots     roots     // of containers
	garbage   *collector

	syncing  sync.Mutex  // held while layers are written to the disk
	unsynced atomic.Bool // there are layers that may not be on the disk

	naming   sync.Mutex // held while a name moves from one image to another
	pruning  sync.Mutex
	counting sync.Mutex // guards lastOp
	lastOp   uint64

	closing  sync.Once
	closeErr error // written by closing
}

// Open opens the stores under c.Root, which a crash may have left in any state. Close it.
func Open(ctx context.Context, c Config) (_ *Service, err error) {
	s := &Service{cfg: c, mountDir: filepath.Join(c.Root, "mounts"), limits: defaultLimits()}
	defer func() {
		if err != nil {
			_ = s.closeStores()
			err = fmt.Errorf("opening the image store %s: %w", c.Root, err)
		}
	}()
	if err := s.Reconfigure(c.Settings); err != nil {
		return nil, err
	}
	s.choosePlatform()
	if err := s.openStores(); err != nil {
		return nil, err
	}
	if err := s.db.Init(ctx); err != nil {
		return nil, err
	}
	ctx = namespaces.WithNamespace(ctx, Namespace)
	if err := s.recover(ctx); err != nil {
		return nil, err
	}
	if err := s.openRoots(ctx); err != nil {
		return nil, err
	}
	s.garbage = collect(s.db, s.releaseUnnamed, s.touchLayers)
	s.garbage.orphans.Store(true)
	s.garbage.kick() // what a crash left
	return s, nil
}

func (s *Service) choosePlatform() {
	if s.cfg.Platform.OS == "" {
		s.cfg.Platform = platforms.DefaultSpec()
	}
	s.cfg.Platform = platforms.Normalize(s.cfg.Platform)
	s.host = platforms.Only(s.cfg.Platform)
}

func (s *Service) openStores() error {
	root := s.cfg.Root
	for _, dir := range []string{root, s.mountDir} {
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700)); err != nil { // images' setuid programs are not for the host's users
			return err
		}
	}
	// Blobs are for nobody else on the machine; and their garbage is collected only where there is a folder of them.
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "content", "blobs", "sha256"), 0o755), os.Chmod(filepath.Join(root, "content"), 0o700)); err != nil {
		return err
	}
	blobs, err := local.NewStore(filepath.Join(root, "content"))
	if err != nil {
		return err
	}
	if err := s.openSnapshots(); err != nil {
		return err
	}
	database := filepath.Join(root, "metadata.db")
	if err := makeDatabase(database); err != nil {
		return err
	}
	s.bolt, err = bolt.Open(database, 0o600, &bolt.Options{Timeout: openTimeout, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return fmt.Errorf("opening metadata.db (is another engine running?): %w", err)
	}
	s.db = metadata.NewDB(s.bolt, blobs, map[string]snapshots.Snapshotter{s.snapshotter: s.layersDisk})
	s.content = s.db.ContentStore()
	s.layers = s.db.Snapshotter(s.snapshotter)
	s.images = metadata.NewImageStore(s.db)
	s.leases = metadata.NewLeaseManager(s.db)
	return nil
}

// openSnapshots chooses the snapshotter once: a root that was begun with one stays with it.
func (s *Service) openSnapshots() error {
	dirs := map[string]string{
		Overlay: filepath.Join(s.cfg.Root, "snapshots"),
		Native:  filepath.Join(s.cfg.Root, "snapshots-native"),
	}
	name, err := s.chooseSnapshotter(dirs)
	if err != nil {
		return err
	}
	s.snapshotter = name
	if err := makeDatabase(filepath.Join(dirs[name], "metadata.db")); err != nil {
		return err
	}
	if name == Native {
		s.layersDisk, err = native.NewSnapshotter(dirs[Native])
	} else {
		s.layersDisk, err = overlay.NewSnapshotter(dirs[Overlay])
	}
	return err
}

func (s *Service) chooseSnapshotter(dirs map[string]string) (string, error) {
	switch s.cfg.StorageDriver {
	case Overlay, "overlay2":
		return Overlay, overlayutils.Supported(dirs[Overlay])
	case Native, "vfs":
		return Native, nil
	case "":
	default:
		return "", invalid("storage driver %q is not supported: choose overlayfs or native", s.cfg.StorageDriver)
	}
	if _, err := os.Stat(dirs[Native]); err == nil {
		return Native, nil
	}
	// The snapshotter's database is there once overlay has been used; trying again costs each start a mount and its sync.
	if _, err := os.Stat(filepath.Join(dirs[Overlay], "metadata.db")); err == nil {
		return Overlay, nil
	}
	if err := overlayutils.Supported(dirs[Overlay]); err != nil {
		log.L.WithError(err).Warn("overlay cannot be mounted under the data root; layers are copied instead")
		return Native, os.RemoveAll(dirs[Overlay])
	}
	return Overlay, nil
}

// Close ends what runs in the background and closes the stores; a second call does nothing. Mounted root filesystems stay
// mounted.
func (s *Service) Close() error {
	s.closing.Do(func() {
		s.pulls.stop()
		s.roots.close()
		s.garbage.stop()
		s.closeErr = s.closeStores()
	})
	return s.closeErr
}

func (s *Service) closeStores() error {
	var errs []error
	if s.bolt != nil {
		errs = append(errs, s.bolt.Close())
	}
	if s.layersDisk != nil {
		errs = append(errs, s.layersDisk.Close())
	}
	return errors.Join(errs...)
}

// Snapshotter is the name of the snapshotter in use.
func (s *Service) Snapshotter() string { return s.snapshotter }

// Metadata is the stores' database, for a builder that shares them. Use it in [Namespace].
func (s *Service) Metadata() *metadata.DB { return s.db }

// Count is how many images there are.
func (s *Service) Count(ctx context.Context) (int, error) {
	all, err := s.images.List(inNamespace(ctx))
	if err != nil {
		return 0, err
	}
	ids := map[string]bool{}
	for _, img := range all {
		ids[img.Target.Digest.String()] = true
	}
	return len(ids), nil
}

func inNamespace(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, Namespace)
}

// event tells that something happened to an image. id is its digest, name what the client knows it by.
func (s *Service) event(action events.Action, id, name string, labels map[string]string) {
	if s.cfg.Events == nil {
		return
	}
	attrs := map[string]string{}
	for k, v := range labels {
		attrs[k] = v
	}
	attrs["name"] = name
	s.cfg.Events.Publish(events.Message{
		Type: events.ImageEventType, Action: action, Actor: events.Actor{ID: id, Attributes: attrs},
	})
}

func (s *Service) inUse(imageID string) []User {
	if s.cfg.InUse == nil {
		return nil
	}
	return s.cfg.InUse(imageID)
}

// op names something temporary, unique for as long as the service is open.
func (s *Service) op(kind string) string {
	s.counting.Lock()
	defer s.counting.Unlock()
	s.lastOp++
	return fmt.Sprintf("%s-%d-%d", kind, time.Now().UnixNano(), s.lastOp)
}
