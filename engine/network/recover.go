package network

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
)

// Recover is called once at start with the containers that still run. Their ports are opened and their names served again;
// what is left of all others is removed.
func (s *Service) Recover(ctx context.Context, running []string) error {
	s.mu.Lock()
	var dead, alive []string
	for id := range s.sandboxes {
		if slices.Contains(running, id) {
			alive = append(alive, id)
		} else {
			dead = append(dead, id)
		}
	}
	s.mu.Unlock()
	if len(running) == 0 && isEmpty(s.netnsDir()) && isEmpty(s.sandboxesDir()) && !s.raised.Load() {
		s.sweepDue.Store(true) // as after a boot: Raise looks for links, which are all that can be left
		return nil
	}
	if err := s.Raise(ctx); err != nil {
		return err
	}
	var errs []error
	for _, id := range dead {
		errs = append(errs, s.DeleteSandbox(ctx, id))
	}
	for _, id := range alive {
		s.resume(ctx, id)
	}
	return errors.Join(append(errs, s.sweep())...)
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// resume gives a running container back what the engine itself does for it. What does not work is logged: the container
// runs on.
func (s *Service) resume(ctx context.Context, containerID string) {
	sb := s.enter(containerID, false)
	if sb == nil {
		return
	}
	defer sb.mu.Unlock()
	for _, b := range sb.bindings {
		if b.proxy != nil {
			continue
		}
		if err := b.listen(); err != nil {
			s.log.WarnContext(ctx, "a published port is no longer reserved", "container", containerID, "port", b.HostPort, "proto", b.Proto, "error", err)
		}
	}
	s.ports.add(sb.bindings)
	if err := errors.Join(s.retarget(sb), s.ensureResolver(sb)); err != nil {
		s.log.WarnContext(ctx, "a container's network does not work in full", "container", containerID, "error", err)
	}
}

// sweep removes namespaces, links and documents that belong to no sandbox.
func (s *Service) sweep() error {
	s.mu.Lock()
	known := map[string]bool{}
	for id, sb := range s.sandboxes {
		known[s.sandboxPath(id)] = true
		known[sb.rec.Path] = true
		for _, ep := range sb.endpoints {
			known[ep.HostLink] = true
		}
	}
	bridges := map[string]bool{}
	for _, n := range s.networks {
		bridges[n.rec.Bridge] = n.isBridge()
	}
	s.mu.Unlock()
	return errors.Join(s.sweepLinks(known, bridges), sweepFiles(s.netnsDir(), known, removeNamespace), sweepFiles(s.sandboxesDir(), known, os.Remove))
}

func sweepFiles(dir string, known map[string]bool, remove func(path string) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); !known[path] && e.Type().IsRegular() {
			errs = append(errs, remove(path))
		}
	}
	return errors.Join(errs...)
}

// sweepLinks removes links on our bridges that were made for containers, and bridges of networks that are gone.
func (s *Service) sweepLinks(known, bridges map[string]bool) error {
	links, err := s.link.LinkList()
	if err != nil {
		return err
	}
	ours := map[int]bool{}
	for _, l := range links {
		if bridges[l.Attrs().Name] {
			ours[l.Attrs().Index] = true
		}
	}
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		if ours[l.Attrs().MasterIndex] && isHostLink(name) && !known[name] {
			errs = append(errs, s.removeLink(name))
		}
	}
	return errors.Join(errs...)
}
