//go:build linux

package container

import (
	"context"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/getberth/berth/engine/container/ps"
)

// Top lists a container's processes as ps does with psArgs, "-ef" when empty.
func (s *Service) Top(ctx context.Context, ref, psArgs string) (container.TopResponse, error) {
	c, spec, state, err := s.find(ref)
	if err != nil {
		return container.TopResponse{}, err
	}
	if !state.running() {
		return container.TopResponse{}, conflict("container %s is not running", c.id)
	}
	columns, err := ps.Parse(psArgs)
	if err != nil {
		return container.TopResponse{}, invalid("%v", err)
	}
	pids, err := s.deps.Runtime.Processes(ctx, c.id)
	if err != nil {
		return container.TopResponse{}, err
	}
	titles, rows, err := ps.List(columns, pids)
	if err != nil {
		return container.TopResponse{}, err
	}
	s.emit(spec, events.ActionTop)
	return container.TopResponse{Titles: titles, Processes: rows}, nil
}
