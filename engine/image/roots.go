//go:build linux

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	cfs "github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"
)

// Labels of snapshots that no name and no lease holds.
const (
	labelRoot     = "containerd.io/gc.root"                 // it is collected only after it was removed
	labelManifest = "containerd.io/gc.ref.content.manifest" // an image stays as long as a container of it, named or not
	labelBase     = "berth.base"                            // what overlayRoots made
)

// roots keeps the writable layers of containers. Errors are of errdefs.ErrAlreadyExists and errdefs.ErrNotFound.
type roots interface {
	prepare(ctx context.Context, key string, m *manifest) error
	mounts(ctx context.Context, key string) ([]mount.Mount, error)
	remove(ctx context.Context, key string) error
	usage(ctx context.Context, key string) (int64, error)        // of the writable layer, in bytes
	base(ctx context.Context, key string) (digest.Digest, error) // the manifest that it was made of
	user(ctx context.Context, manifest digest.Digest) (key string, ok bool, err error)
	upper(key string) (dir string, ok bool) // the folder of nothing but the changes, if there is one
	// release lets go of images that no container uses and no name leads to; it reports whether there were any.
	release(ctx context.Context, named map[digest.Digest]bool) (bool, error)
	close()
}

func (s *Service) openRoots(ctx context.Context) error {
	if s.snapshotter == Native {
		s.roots = &snapshotRoots{s.layers, func() { s.garbage.kick() }}
		return nil
	}
	r := &overlayRoots{
		layers: s.layers, dir: filepath.Join(s.cfg.Root, "containers"), withMount: s.withMount,
		bases: map[digest.Digest]*baseLayers{},
	}
	s.roots = r
	return r.open(ctx)
}

// snapshotRoots makes a snapshot for each container.
type snapshotRoots struct {
	layers snapshots.Snapshotter
	freed  func()
}

// rootFSKey keeps containers apart from other users of the snapshotter.
func rootFSKey(key string) string { return "container-" + key }

func (r *snapshotRoots) prepare(ctx context.Context, key string, m *manifest) error {
	_, err := r.layers.Prepare(ctx, rootFSKey(key), m.top(), snapshots.WithLabels(map[string]string{
		labelRoot: time.Now().UTC().Format(time.RFC3339), labelManifest: m.desc.Digest.String(),
	}))
	return err
}

func (r *snapshotRoots) mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	return r.layers.Mounts(ctx, rootFSKey(key))
}

func (r *snapshotRoots) remove(ctx context.Context, key string) error {
	defer r.freed()
	return r.layers.Remove(ctx, rootFSKey(key))
}

func (r *snapshotRoots) usage(ctx context.Context, key string) (int64, error) {
	u, err := r.layers.Usage(ctx, rootFSKey(key))
	return u.Size, err
}

func (r *snapshotRoots) base(ctx context.Context, key string) (digest.Digest, error) {
	info, err := r.layers.Stat(ctx, rootFSKey(key))
	return digest.Digest(info.Labels[labelManifest]), err
}

func (r *snapshotRoots) user(ctx context.Context, manifest digest.Digest) (key string, ok bool, err error) {
	err = r.layers.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if k, found := strings.CutPrefix(info.Name, rootFSKey("")); found {
			key, ok = k, true
		}
		return nil
	}, fmt.Sprintf("labels.%q==%s", labelManifest, manifest))
	return key, ok, err
}

func (r *snapshotRoots) upper(string) (string, bool) { return "", false }
func (r *snapshotRoots) release(context.Context, map[digest.Digest]bool) (bool, error) {
	return false, nil
}

func (r *snapshotRoots) close() {}

// overlayRoots keeps writable layers in folders of its own, dir/KEY/{fs,work,layer.json}, on top of one read-only snapshot for
// each image that has had a container. Against a snapshot for each container that saves a run two thirds of its writes to the
// disk, and the collection of garbage after it.
type overlayRoots struct {
	layers    snapshots.Snapshotter
	dir       string
	withMount func([]mount.Mount, func(root string) error) error
	deleting  sync.WaitGroup

	mu    sync.Mutex // guards what follows; held while a base is made or dropped
	bases map[digest.Digest]*baseLayers
	trash int
}

// baseLayers are the layers of an image as a container's lower ones.
type baseLayers struct {
	lower   []string // topmost first
	options []string // of the mount, without folders
	users   map[string]struct{}
}

// layerDoc is what layer.json holds.
type layerDoc struct {
	Manifest digest.Digest `json:"manifest"`
}

const trashPrefix = ".trash-"

// deleteGrace is how long the end of the engine may wait for the deletion of files.
const deleteGrace = 5 * time.Second

func baseKey(d digest.Digest) string { return "base-" + d.String() }
func initKey(d digest.Digest) string { return "init-" + d.String() }

// open finds the containers that there are, and deletes what a crash left of others.
func (r *overlayRoots) open(ctx context.Context) error {
	// What containers wrote, set-user-id programs for one, is not for the machine's users. CVE-2021-41091.
	if err := errors.Join(os.MkdirAll(r.dir, 0o700), os.Chmod(r.dir, 0o700)); err != nil {
		return err
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		id, err := r.base(ctx, e.Name())
		switch {
		case errdefs.IsNotFound(err):
			r.delete(filepath.Join(r.dir, e.Name()))
		case err != nil:
			log.G(ctx).WithError(err).Warn("a container's root filesystem cannot be used")
		default:
			r.use(id).users[e.Name()] = struct{}{}
		}
	}
	return r.layers.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		r.use(digest.Digest(info.Labels[labelManifest]))
		return nil
	}, "labels.\""+labelBase+"\"==true")
}

// use is the entry of an image. mu is held, or nobody else knows r yet.
func (r *overlayRoots) use(id digest.Digest) *baseLayers {
	b := r.bases[id]
	if b == nil {
		b = &baseLayers{users: map[string]struct{}{}}
		r.bases[id] = b
	}
	return b
}

func (r *overlayRoots) prepare(ctx context.Context, key string, m *manifest) error {
	dir := filepath.Join(r.dir, key)
	if _, err := os.Lstat(dir); err == nil {
		return errdefs.ErrAlreadyExists
	}
	b, err := r.hold(ctx, key, m)
	if err != nil {
		return err
	}
	if err := makeLayer(dir, b, layerDoc{m.desc.Digest}); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return errdefs.ErrAlreadyExists
		}
		r.letGo(key, m.desc.Digest)
		return errors.Join(err, os.RemoveAll(dir))
	}
	return nil
}

// hold makes sure that the image's layers stay, for a container.
func (r *overlayRoots) hold(ctx context.Context, key string, m *manifest) (*baseLayers, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.use(m.desc.Digest)
	if b.options == nil {
		mounts, err := r.view(ctx, m)
		if err != nil {
			return nil, err
		}
		b.set(mounts)
	}
	b.users[key] = struct{}{}
	return b, nil
}

func (r *overlayRoots) letGo(key string, id digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.bases[id]; b != nil {
		delete(b.users, key)
	}
}

func (r *overlayRoots) view(ctx context.Context, m *manifest) ([]mount.Mount, error) {
	key := baseKey(m.desc.Digest)
	mounts, err := r.layers.Mounts(ctx, key)
	if !errdefs.IsNotFound(err) {
		return mounts, err
	}
	if err := r.initLayer(ctx, m); err != nil {
		return nil, err
	}
	return r.layers.View(ctx, key, initKey(m.desc.Digest), baseLabels(m))
}

func baseLabels(m *manifest) snapshots.Opt {
	return snapshots.WithLabels(map[string]string{
		labelRoot: time.Now().UTC().Format(time.RFC3339), labelManifest: m.desc.Digest.String(), labelBase: "true",
	})
}

// set takes the folders out of the mount of a view: an overlay of several layers, or a bind of one.
func (b *baseLayers) set(mounts []mount.Mount) {
	b.options = overlayOptions()
	for _, m := range mounts {
		if m.Type != "overlay" {
			b.lower = []string{m.Source}
			continue
		}
		_, b.lower = overlayDirs(m)
		for _, o := range m.Options {
			name, _, _ := strings.Cut(o, "=")
			known := slices.ContainsFunc(b.options, func(have string) bool { return strings.HasPrefix(have, name+"=") })
			if name != "ro" && name != "lowerdir" && !known {
				b.options = append(b.options, o)
			}
		}
	}
}

// overlayOptions turns off, where the kernel knows it, what would let an upper folder hold less than the changes: index and
// metacopy refer to files below, redirect_dir to folders, so that a commit would lose what was renamed.
func overlayOptions() []string {
	options := []string{}
	for _, o := range []string{"index=off", "metacopy=off", "redirect_dir=off"} {
		name, _, _ := strings.Cut(o, "=")
		if _, err := os.Stat("/sys/module/overlay/parameters/" + name); err == nil {
			options = append(options, o)
		}
	}
	return options
}

// makeLayer makes the folders of a container. Their record comes last: without it, they are deleted at the next start.
func makeLayer(dir string, b *baseLayers, doc layerDoc) error {
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	upper := filepath.Join(dir, "fs")
	for _, d := range []string{upper, filepath.Join(dir, "work")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := copyOwner(b.lower[0], upper); err != nil {
		return err
	}
	if err := writeDoc(filepath.Join(dir, "layer.json"), doc); err != nil {
		return err
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// writeDoc writes in place, for once: it is written once, and until it is, there is no container. That saves a third of the
// time; syncing the folders after the file costs next to nothing.
func writeDoc(path string, doc layerDoc) error {
	raw, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(raw); err != nil {
		return err
	}
	return f.Sync()
}

// copyOwner makes the upper folder what the root of the layers below is: it is what is seen.
func copyOwner(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := os.Chmod(to, info.Mode().Perm()); err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return os.Chown(to, int(st.Uid), int(st.Gid))
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (r *overlayRoots) mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	id, err := r.base(ctx, key)
	if err != nil {
		return nil, err
	}
	lower, options, err := r.lower(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("finding its layers: %w", err)
	}
	dir := filepath.Join(r.dir, key)
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: append(options,
		"lowerdir="+strings.Join(lower, ":"), "upperdir="+filepath.Join(dir, "fs"), "workdir="+filepath.Join(dir, "work"))}}, nil
}

// lower finds the layers of an image anew after a restart.
func (r *overlayRoots) lower(ctx context.Context, id digest.Digest) (lower, options []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.use(id)
	if b.options == nil {
		mounts, err := r.layers.Mounts(ctx, baseKey(id))
		if err != nil {
			return nil, nil, err
		}
		b.set(mounts)
	}
	return b.lower, slices.Clone(b.options), nil
}

func (r *overlayRoots) base(_ context.Context, key string) (digest.Digest, error) {
	if checkKey(key) != nil {
		return "", errdefs.ErrNotFound
	}
	raw, err := os.ReadFile(filepath.Join(r.dir, key, "layer.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", errdefs.ErrNotFound
	}
	if err != nil {
		return "", err
	}
	if len(raw) == 0 { // never written to the end
		return "", errdefs.ErrNotFound
	}
	var doc layerDoc
	if err := json.Unmarshal(raw, &doc); err != nil {
		return "", fmt.Errorf("reading the record of container %s's root filesystem: %w", key, err)
	}
	return doc.Manifest, doc.Manifest.Validate()
}

func (r *overlayRoots) user(_ context.Context, manifest digest.Digest) (key string, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.bases[manifest]; b != nil {
		for key := range b.users {
			return key, true, nil
		}
	}
	return "", false, nil
}

func (r *overlayRoots) upper(key string) (string, bool) { return filepath.Join(r.dir, key, "fs"), true }

func (r *overlayRoots) usage(ctx context.Context, key string) (int64, error) {
	dir, _ := r.upper(key)
	u, err := cfs.DiskUsage(ctx, dir)
	return u.Size, err
}

// remove is done once the folder has another name; its content is deleted meanwhile.
func (r *overlayRoots) remove(ctx context.Context, key string) error {
	if checkKey(key) != nil {
		return errdefs.ErrNotFound
	}
	id, idErr := r.base(ctx, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trash++
	trash := filepath.Join(r.dir, fmt.Sprintf("%s%d-%d", trashPrefix, time.Now().UnixNano(), r.trash))
	err := os.Rename(filepath.Join(r.dir, key), trash)
	if errors.Is(err, fs.ErrNotExist) {
		return errdefs.ErrNotFound
	}
	if err != nil {
		return err
	}
	r.delete(trash)
	if b := r.bases[id]; idErr == nil && b != nil {
		delete(b.users, key)
	}
	return nil
}

func (r *overlayRoots) delete(dir string) {
	r.deleting.Go(func() {
		if err := os.RemoveAll(dir); err != nil {
			log.L.WithError(err).Warn("deleting a container's root filesystem") // the next start tries again
		}
	})
}

func (r *overlayRoots) release(ctx context.Context, named map[digest.Digest]bool) (released bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, b := range r.bases {
		if len(b.users) > 0 || named[id] {
			continue
		}
		for _, key := range []string{baseKey(id), initKey(id)} {
			if err := r.layers.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
				return released, err
			}
		}
		delete(r.bases, id)
		released = true
	}
	return released, nil
}

// close gives deletions a while to end. The next start goes on with those that have not.
func (r *overlayRoots) close() {
	done := make(chan struct{})
	go func() { r.deleting.Wait(); close(done) }()
	t := time.NewTimer(deleteGrace)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}
