//go:build linux

package container

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"

	"github.com/getberth/berth/engine/container/mountspec"
	"github.com/getberth/berth/engine/filter"
)

// Remove deletes a container. When it returns, the name is free; disk space follows.
func (s *Service) Remove(ctx context.Context, ref string, o RemoveOptions) error {
	if o.Link {
		return refused("removing links is not supported by this engine: legacy links have no names of their own")
	}
	c, spec, state, err := s.find(ref)
	if err != nil {
		return err
	}
	if err := removable(spec, state, o.Force); err != nil {
		return err
	}
	if state.active() {
		if err := s.killForRemoval(ctx, c); err != nil {
			return err
		}
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	c.mu.Lock()
	gone, state := c.gone, c.state
	c.mu.Unlock()
	if gone { // it was to be removed at its end, or somebody else was faster
		if o.Force {
			return nil
		}
		return notFound("No such container: %s", ref)
	}
	if state.active() {
		return removable(spec, state, false)
	}
	s.removeNow(c, o.Volumes)
	return nil
}

func removable(spec *Spec, state *State, force bool) error {
	if !state.active() || force {
		return nil
	}
	hint := "stop the container before removing or force remove"
	if state.Status == container.StatePaused {
		hint = "unpause and then " + hint
	}
	return conflict("cannot remove container %q: container is %s: %s", "/"+spec.Name, state.Status, hint)
}

func (s *Service) killForRemoval(ctx context.Context, c *instance) error {
	zero := 0
	if err := s.halt(context.WithoutCancel(ctx), c, StopOptions{Timeout: &zero}, true); err != nil {
		return err
	}
	return nil
}

// removeNow takes a container that has no process out of the world; what it had on the host is cleared beside. The caller
// holds its lock.
func (s *Service) removeNow(c *instance, volumes bool) {
	spec, _ := c.view()
	c.cancelRetry()
	s.buryDocuments(c)
	if hasVolumes(spec) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), tearDownTimeout)
		s.unmountBeforeVolumes(ctx, spec)
		s.releaseVolumes(ctx, spec, volumes)
		cancel()
	}
	c.setState(func(st *State) { st.Status = container.StateRemoving })
	s.reg.remove(c)
	c.mu.Lock()
	c.gone = true
	c.mu.Unlock()
	s.emit(spec, events.ActionDestroy)
	s.endPending(c)
	c.tellEnd(true)
	s.forgetExecs(c)
	s.background(func(context.Context) { s.clear(spec) })
}

func (s *Service) buryDocuments(c *instance) {
	c.saving.Lock()
	defer c.saving.Unlock()
	c.buried = true
	if err := s.store.bury(c.id); err != nil {
		s.log.Error("removing a container's documents", "id", c.id, "error", err)
	}
}

func hasVolumes(spec *Spec) bool {
	return slices.ContainsFunc(spec.Mounts, func(p mountspec.Point) bool { return p.Type == mount.TypeVolume })
}

// unmountBeforeVolumes: a container's mounts of its volumes go with its processes.
func (s *Service) unmountBeforeVolumes(ctx context.Context, spec *Spec) {
	if err := errors.Join(s.deps.Runtime.Delete(ctx, spec.ID), s.unmountExtras(spec.ID)); err != nil {
		s.log.Error("ending what is left of a container", "id", spec.ID, "error", err)
	}
}

// clear takes away what a removed container has left. What cannot be is tried again at the engine's next start.
func (s *Service) clear(spec *Spec) {
	s.tearDown(spec)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), tearDownTimeout)
	defer cancel()
	if err := errors.Join(s.deps.Images.RemoveRootFS(ctx, spec.ID), s.removeImageMounts(ctx, spec)); err != nil {
		s.log.Error("removing a container's root filesystem", "id", spec.ID, "error", err)
		return
	}
	if err := s.store.clear(spec.ID); err != nil {
		s.log.Error("removing a container's folder", "id", spec.ID, "error", err)
	}
}

// Prune removes the containers that do not run.
func (s *Service) Prune(ctx context.Context, f filter.Args) (container.PruneReport, error) {
	report := container.PruneReport{ContainersDeleted: []string{}}
	if err := f.Allowed("label", "label!", "until"); err != nil {
		return report, err
	}
	until, err := f.Until(time.Now())
	if err != nil {
		return report, err
	}
	for _, c := range s.reg.all() {
		if ctx.Err() != nil {
			return report, ctx.Err()
		}
		spec, state := c.view()
		if state.active() || !f.MatchPrune(spec.Config.Labels) || !until.IsZero() && !spec.Created.Before(until) {
			continue
		}
		size, _, err := s.deps.Images.RootFSSize(ctx, c.id)
		if err != nil {
			size = 0
		}
		if err := s.Remove(ctx, c.id, RemoveOptions{}); err != nil {
			continue // started or removed by somebody else meanwhile
		}
		report.ContainersDeleted = append(report.ContainersDeleted, c.id)
		report.SpaceReclaimed += uint64(max(size, 0))
	}
	s.deps.Events.Publish(pruneEvent(report.SpaceReclaimed))
	return report, nil
}
