package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"
)

const (
	driverName     = "local"
	anonymousLabel = "com.docker.volume.anonymous"
	dataDir        = "_data"
	// removedPrefix starts the name of a folder that is being deleted. No volume's name begins with a dot, so that the
	// next start can tell and finish.
	removedPrefix = ".removed-"
)

// Events takes what happened; it never blocks.
type Events interface {
	Publish(events.Message)
}

// Config says where volumes live.
type Config struct {
	Root   string // the engine's data root; volumes are in Root/volumes
	Events Events // may be nil
}

// Service keeps volumes. It is safe for concurrent use.
type Service struct {
	root   string // Root/volumes
	events Events

	mu      sync.Mutex // guards the maps, and every field of a record but for its mount
	volumes map[string]*record
}

// record is a volume that lives.
type record struct {
	meta   metadata
	broken error               // why the document could not be read; nil for a sound volume
	refs   map[string]struct{} // ids of containers that use it
	gone   bool                // removed; whoever waited for mounting must look again

	// mounting is held while the volume is mounted or unmounted, which can take as long as an NFS server likes. It is taken
	// before Service.mu.
	mounting sync.Mutex
}

// Open loads the volumes below c.Root, making the folder if needed, and ends removals that were cut short.
func Open(c Config) (*Service, error) {
	s := &Service{root: filepath.Join(c.Root, "volumes"), events: c.Events, volumes: map[string]*record{}}
	if err := os.MkdirAll(s.root, 0o701); err != nil {
		return nil, fmt.Errorf("opening the volumes: %w", err)
	}
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return nil, fmt.Errorf("opening the volumes: %w", err)
	}
	for _, entry := range entries {
		switch name := entry.Name(); {
		case strings.HasPrefix(name, removedPrefix):
			_ = os.RemoveAll(filepath.Join(s.root, name)) // the next start tries again
		case entry.IsDir() && checkName(name) == nil:
			s.volumes[name] = s.load(name)
		}
	}
	return s, nil
}

// load reads a volume. One whose document is missing is a plain folder; one whose document is damaged can be seen and
// removed, but not used.
func (s *Service) load(name string) *record {
	r := &record{refs: map[string]struct{}{}}
	meta, err := readMetadata(s.metaPath(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		meta = metadata{Created: modTime(s.dataPath(name))}
	case err != nil:
		meta = metadata{Created: modTime(s.dataPath(name))}
		r.broken = err
	}
	meta.Name = name
	r.meta = meta
	return r
}

func modTime(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Create makes a volume, or finds the one of that name. An empty name makes an anonymous one.
func (s *Service) Create(ctx context.Context, req volume.CreateRequest) (volume.Volume, error) {
	if err := checkRequest(req); err != nil {
		return volume.Volume{}, err
	}
	labels := maps.Clone(req.Labels)
	if req.Name == "" {
		req.Name = randomName()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[anonymousLabel] = ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.volumes[req.Name]; ok {
		return s.view(r), nil
	}
	r := &record{refs: map[string]struct{}{}, meta: metadata{
		Name: req.Name, Created: time.Now(), Labels: labels, Options: maps.Clone(req.DriverOpts),
	}}
	if err := s.make(r.meta); err != nil {
		return volume.Volume{}, fmt.Errorf("create %s: %w", req.Name, err)
	}
	s.volumes[req.Name] = r
	s.publish(events.ActionCreate, req.Name)
	return s.view(r), nil
}

// make writes a volume's folder. What an earlier try left is used again.
func (s *Service) make(meta metadata) error {
	if err := os.MkdirAll(filepath.Join(s.root, meta.Name), 0o701); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dataPath(meta.Name), 0o755); err != nil {
		return err
	}
	if err := writeMetadata(s.metaPath(meta.Name), meta); err != nil {
		return err
	}
	return syncDir(s.root)
}

func checkRequest(req volume.CreateRequest) error {
	if req.ClusterVolumeSpec != nil {
		return errdefs.ErrInvalidArgument.WithMessage("cluster volumes are not supported")
	}
	if req.Driver != "" && req.Driver != driverName {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("create %s: error looking up volume plugin %s: plugin %q not found",
			req.Name, req.Driver, req.Driver))
	}
	if req.Name != "" {
		if err := checkName(req.Name); err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("create %s: %v", req.Name, err))
		}
	}
	if _, err := parseMount(req.DriverOpts); err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("create %s: %v", req.Name, err))
	}
	return nil
}

// Inspect shows a volume.
func (s *Service) Inspect(ctx context.Context, name string) (volume.Volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find(name)
	if err != nil {
		return volume.Volume{}, err
	}
	return s.view(r), nil
}

// find needs s.mu.
func (s *Service) find(name string) (*record, error) {
	r, ok := s.volumes[name]
	if !ok {
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("get %s: no such volume", name))
	}
	return r, nil
}

// Remove deletes a volume with its data. One that a container uses is refused, even with force; force forgives that there
// is none.
func (s *Service) Remove(ctx context.Context, name string, force bool) error {
	err := s.remove(name)
	if force && errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

func (s *Service) remove(name string) error {
	s.mu.Lock()
	r, err := s.find(name)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	r.mounting.Lock()
	defer r.mounting.Unlock()
	trash, err := s.detach(r)
	if err != nil {
		return err
	}
	s.publish(events.ActionDestroy, name)
	if err := os.RemoveAll(trash); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// detach takes a volume that nobody uses out of the store, and returns the folder that is left to delete. It needs
// r.mounting.
func (s *Service) detach(r *record) (trash string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := r.meta.Name
	if r.gone {
		return "", errdefs.ErrNotFound.WithMessage(fmt.Sprintf("get %s: no such volume", name))
	}
	if len(r.refs) > 0 {
		return "", errdefs.ErrConflict.WithMessage(fmt.Sprintf("remove %s: volume is in use - [%s]",
			name, strings.Join(slices.Sorted(maps.Keys(r.refs)), ", ")))
	}
	// Deleting a folder deletes what is mounted in it.
	if err := unmountBelow(filepath.Join(s.root, name)); err != nil {
		return "", fmt.Errorf("remove %s: %w", name, err)
	}
	trash = filepath.Join(s.root, removedPrefix+randomName()[:16])
	if err := os.Rename(filepath.Join(s.root, name), trash); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("remove %s: %w", name, err)
	}
	r.gone = true
	delete(s.volumes, name)
	return trash, syncDir(s.root)
}

func (s *Service) publish(action events.Action, name string) {
	if s.events == nil {
		return
	}
	now := time.Now()
	s.events.Publish(events.Message{
		Type: events.VolumeEventType, Action: action, Scope: "local", Time: now.Unix(), TimeNano: now.UnixNano(),
		Actor: events.Actor{ID: name, Attributes: map[string]string{"driver": driverName}},
	})
}

// view is what clients see of a volume.
func (s *Service) view(r *record) volume.Volume {
	return volume.Volume{
		Name: r.meta.Name, Driver: driverName, Scope: "local", Mountpoint: s.dataPath(r.meta.Name),
		CreatedAt: r.meta.Created.Format(time.RFC3339), Labels: maps.Clone(r.meta.Labels), Options: maps.Clone(r.meta.Options),
	}
}

func (s *Service) dataPath(name string) string { return filepath.Join(s.root, name, dataDir) }
func (s *Service) metaPath(name string) string { return filepath.Join(s.root, name, metadataFile) }

// checkName holds a name to Docker's rule, [a-zA-Z0-9][a-zA-Z0-9_.-]+, and to what a folder's name may be.
func checkName(name string) error {
	const maxLen = 255 // NAME_MAX of Linux's filesystems
	if len(name) < 2 {
		return errors.New("volume name is too short, names should be at least two alphanumeric characters")
	}
	if len(name) > maxLen {
		return fmt.Errorf("volume name is longer than %d characters", maxLen)
	}
	for i, c := range []byte(name) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("_.-", rune(c))) {
			return fmt.Errorf("%q includes invalid characters for a local volume name, only %q are allowed. "+
				"If you intended to pass a host directory, use absolute path", name, "[a-zA-Z0-9][a-zA-Z0-9_.-]")
		}
	}
	return nil
}

func randomName() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
