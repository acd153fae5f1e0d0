//go:build linux

package container

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/getberth/berth/engine/runtime/shim"
)

// parallelStarts bounds how many containers are started at once when the engine starts.
const parallelStarts = 4

// Recover takes over the containers that the last engine left: those that still run are watched again, the ends of others are
// recorded, and those whose policy says so are started in the background. It is called once, before any other method.
func (s *Service) Recover(ctx context.Context) error {
	running, dead, err := s.survey(ctx)
	if err != nil {
		return err
	}
	ids := make([]string, 0, len(running))
	for c := range running {
		ids = append(ids, c.id)
	}
	if err := s.deps.Networks.Recover(ctx, ids); err != nil {
		return err
	}
	for _, c := range s.reg.all() {
		s.useVolumes(ctx, c)
	}
	for c, state := range running {
		s.adopt(c, state)
	}
	for c, state := range dead {
		s.bury(c, state)
	}
	s.clearLeftovers(running)
	s.restartAll()
	return nil
}

// survey asks the runtime about every container. dead are those that ended without the engine, or whose start was cut short. An
// engine that is told to end meanwhile has learnt nothing: it must not take those for dead that it could not ask.
func (s *Service) survey(ctx context.Context) (running, dead map[*instance]shim.State, err error) {
	running, dead = map[*instance]shim.State{}, map[*instance]shim.State{}
	for _, c := range s.reg.all() {
		_, known := c.view()
		state, err := s.deps.Runtime.State(ctx, c.id)
		if err != nil && ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if err != nil {
			s.log.Error("asking for a container's state", "id", c.id, "error", err)
			state = shim.State{Status: shim.Unknown}
		}
		switch {
		case state.Status == shim.Running || state.Status == shim.Paused:
			running[c] = state
		case known.active() || state.Status != shim.Unknown:
			dead[c] = state
		}
	}
	return running, dead, nil
}

// useVolumes takes the references again, which the volume service holds in memory.
func (s *Service) useVolumes(ctx context.Context, c *instance) {
	spec, _ := c.view()
	for _, p := range spec.Mounts {
		if p.Type != mount.TypeVolume || p.Name == "" {
			continue
		}
		if _, err := s.deps.Volumes.Use(ctx, p.Name, c.id); err != nil {
			s.log.Warn("using a container's volume again", "id", c.id, "volume", p.Name, "error", err)
		}
	}
}

// adopt goes on with a container that runs.
func (s *Service) adopt(c *instance, found shim.State) {
	l := c.beginLife(s.ctx)
	spec, _ := c.view()
	c.setState(func(st *State) {
		st.Status = container.StateRunning
		if found.Status == shim.Paused {
			st.Status = container.StatePaused
		}
		if st.PID != found.PID && !found.StartedAt.IsZero() { // else the last engine has told a time, which stays
			st.StartedAt = found.StartedAt
		}
		st.PID, st.Started = found.PID, true
	})
	s.persist(c)
	s.background(func(ctx context.Context) { s.watch(ctx, c, l) })
	s.watchHealth(c, spec, l)
	s.watchMemory(c, spec, l)
}

// bury records the end of a container that nobody saw. Whether it is started again is for restartAll.
func (s *Service) bury(c *instance, found shim.State) {
	spec, known := c.view()
	exit := found.Exit
	switch {
	case exit == nil && !known.active(): // its start was cut short
		s.tearDown(spec)
		return
	case exit == nil && known.Status == container.StateRestarting: // the engine died between two lives
		c.setState(func(st *State) { st.Status = container.StateExited })
		s.persist(c)
		return
	case exit == nil:
		exit = &shim.Exit{Code: unknownExit, At: time.Now().UTC()}
	case !known.active() && !exit.At.After(known.StartedAt): // its end is known; only the clearing was cut short
		s.tearDown(spec)
		return
	}
	state := c.setState(func(st *State) {
		if !known.running() && !found.StartedAt.IsZero() {
			st.StartedAt = found.StartedAt
		}
		st.Started = true
		st.end(*exit, false)
	})
	s.emitDie(spec, state)
	s.persist(c)
	s.tearDown(spec)
}

// clearLeftovers ends removals that were cut short, and takes away mounts that nobody uses.
func (s *Service) clearLeftovers(running map[*instance]shim.State) {
	alive := map[string]bool{}
	for c := range running {
		alive[c.id] = true
	}
	if _, dying, err := s.store.load(); err == nil {
		for _, id := range dying {
			s.background(func(context.Context) { s.clear(s.store.dying(id)) })
		}
	}
	entries, _ := os.ReadDir(filepath.Join(s.cfg.ExecRoot, "rootfs"))
	for _, e := range entries {
		id, _, _ := strings.Cut(e.Name(), ".")
		if alive[id] || !validID(id) {
			continue
		}
		if err := s.unmountExtras(id); err != nil {
			s.log.Warn("unmounting what a container left", "id", id, "error", err)
		}
		if err := s.unmountRootFS(s.ctx, id); err != nil {
			s.log.Warn("unmounting what a container left", "id", id, "error", err)
		}
	}
}

// restartAll removes what was to be removed at its end, and starts what is to run.
func (s *Service) restartAll() {
	var start []*instance
	for _, c := range s.reg.all() {
		spec, state := c.view()
		switch {
		case state.active():
		case spec.HostConfig.AutoRemove && state.Started:
			s.removeNow(c, true)
		case startsWithEngine(spec, state):
			start = append(start, c)
		}
	}
	if len(start) == 0 {
		return
	}
	s.background(func(ctx context.Context) { s.startEach(ctx, start) })
}

// startsWithEngine: Docker starts "always" even if a user stopped it, "unless-stopped" only if not.
func startsWithEngine(spec *Spec, state *State) bool {
	p := spec.HostConfig.RestartPolicy
	switch {
	case !state.Started:
		return false
	case p.IsAlways():
		return true
	case p.IsUnlessStopped():
		return !state.StoppedManually
	case p.IsOnFailure():
		return !state.StoppedManually && policyWants(p, state.RestartCount, state.ExitCode)
	}
	return false
}

func (s *Service) startEach(ctx context.Context, list []*instance) {
	slots := make(chan struct{}, parallelStarts)
	var all sync.WaitGroup
	for _, c := range list {
		slots <- struct{}{}
		all.Add(1)
		go func() {
			defer func() { <-slots; all.Done() }()
			unlock, err := c.lock(ctx)
			if err != nil {
				return
			}
			defer unlock()
			if _, state := c.view(); state.active() {
				return
			}
			if err := s.start(context.WithoutCancel(ctx), c); err != nil {
				s.log.Error("starting a container with the engine", "id", c.id, "error", err)
			}
		}()
	}
	all.Wait()
}
