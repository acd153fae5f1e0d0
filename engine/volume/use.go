package volume

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// Use takes a reference for a container, so that the volume stays, and mounts it if its options say so. It returns the
// folder to bind. Using it again for the same container is no error.
func (s *Service) Use(ctx context.Context, name, containerID string) (path string, err error) {
	s.mu.Lock()
	r, err := s.find(name)
	if err == nil {
		err = s.usable(r)
	}
	s.mu.Unlock()
	if err != nil {
		return "", err
	}
	r.mounting.Lock()
	defer r.mounting.Unlock()
	if err := s.reference(r, containerID); err != nil {
		return "", err
	}
	if err := s.mount(ctx, r); err != nil {
		s.dereference(r, containerID)
		return "", err
	}
	return s.dataPath(name), nil
}

func (s *Service) usable(r *record) error {
	if r.broken == nil {
		return nil
	}
	return fmt.Errorf("using volume %s: its document is damaged (%w)\nremove %s to use the data as a plain volume",
		r.meta.Name, r.broken, s.metaPath(r.meta.Name))
}

func (s *Service) reference(r *record, containerID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.gone {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("get %s: no such volume", r.meta.Name))
	}
	r.refs[containerID] = struct{}{}
	return nil
}

// dereference returns how many containers still use the volume.
func (s *Service) dereference(r *record, containerID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(r.refs, containerID)
	return len(r.refs)
}

// mount needs r.mounting. Options do not change once a volume is made.
func (s *Service) mount(ctx context.Context, r *record) error {
	m, err := parseMount(r.meta.Options)
	if err != nil || m == nil {
		return err
	}
	target := s.dataPath(r.meta.Name)
	if mounted, err := isMounted(target); err != nil || mounted {
		return err
	}
	if err := m.mount(ctx, target); err != nil {
		return fmt.Errorf("error while mounting volume '%s': %w", target, err)
	}
	return nil
}

// Release gives back a container's reference; the last one unmounts the volume. No error when there is none.
func (s *Service) Release(ctx context.Context, name, containerID string) error {
	s.mu.Lock()
	r, ok := s.volumes[name]
	s.mu.Unlock()
	if !ok {
		return nil
	}
	r.mounting.Lock()
	defer r.mounting.Unlock()
	if s.dereference(r, containerID) > 0 || len(r.meta.Options) == 0 {
		return nil
	}
	if err := unmountBelow(filepath.Join(s.root, name)); err != nil {
		return fmt.Errorf("releasing volume %s: %w", name, err)
	}
	return nil
}
