//go:build linux

package container

import (
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/getberth/berth/engine/container/mountspec"
)

// mountPlan collects the mounts of a container. What is asked for by name comes before what the image or another container
// brings; two of the same destination that are both asked for are an error.
type mountPlan struct {
	points map[string]mountspec.Point
	asked  map[string]bool
}

func (s *Service) planMounts(c *container.Config, hc *container.HostConfig) ([]mountspec.Point, error) {
	plan := &mountPlan{points: map[string]mountspec.Point{}, asked: map[string]bool{}}
	err := firstError(
		func() error { return s.planVolumesFrom(plan, hc) },
		func() error { return plan.addBinds(hc) },
		func() error { return plan.addMounts(hc) },
		func() error { return plan.addTmpfs(hc) },
		func() error { return plan.addVolumes(c, hc) },
	)
	if err != nil {
		return nil, err
	}
	list := make([]mountspec.Point, 0, len(plan.points))
	for _, dest := range slices.Sorted(maps.Keys(plan.points)) {
		list = append(list, plan.points[dest])
	}
	return list, nil
}

func (p *mountPlan) ask(point mountspec.Point) error {
	if p.asked[point.Destination] {
		return invalid("Duplicate mount point: %s", point.Destination)
	}
	p.asked[point.Destination] = true
	p.points[point.Destination] = point
	return nil
}

func (p *mountPlan) addBinds(hc *container.HostConfig) error {
	for _, raw := range hc.Binds {
		point, err := mountspec.ParseBind(raw, hc.VolumeDriver)
		if err != nil {
			return invalid("%v", err)
		}
		if err := p.ask(point); err != nil {
			return err
		}
	}
	return nil
}

func (p *mountPlan) addMounts(hc *container.HostConfig) error {
	for _, m := range hc.Mounts {
		point, err := mountspec.FromMount(m, hc.VolumeDriver)
		if err != nil {
			return invalid("%v", err)
		}
		if point.Type == mount.TypeBind && !point.CreateSource && !fileExists(point.Source) {
			return invalid("invalid mount config for type %q: bind source path does not exist: %s", m.Type, point.Source)
		}
		if err := p.ask(point); err != nil {
			return err
		}
	}
	return nil
}

func (p *mountPlan) addTmpfs(hc *container.HostConfig) error {
	for dest, options := range hc.Tmpfs {
		point, err := mountspec.ParseTmpfs(dest, options)
		if err != nil {
			return invalid("%v", err)
		}
		if err := p.ask(point); err != nil {
			return err
		}
	}
	return nil
}

// addVolumes adds the anonymous volumes of the configuration, which holds the image's too, where nothing else is mounted.
func (p *mountPlan) addVolumes(c *container.Config, hc *container.HostConfig) error {
	for dest := range c.Volumes {
		point, err := mountspec.ParseBind(dest, hc.VolumeDriver)
		if err != nil {
			return invalid("%v", err)
		}
		if _, taken := p.points[point.Destination]; !taken {
			p.points[point.Destination] = point
		}
	}
	return nil
}

// planVolumesFrom takes over another container's binds and volumes; CONTAINER[:MODE].
func (s *Service) planVolumesFrom(plan *mountPlan, hc *container.HostConfig) error {
	for _, from := range hc.VolumesFrom {
		ref, mode, _ := strings.Cut(from, ":")
		if ref == "" {
			return invalid("invalid volumes-from specification: %q", from)
		}
		if mode != "" && mode != "ro" && mode != "rw" && mode != "z" && mode != "Z" {
			return invalid("invalid mode for volumes-from: %s", mode)
		}
		_, spec, _, err := s.find(ref)
		if err != nil {
			return invalid("%v", err)
		}
		for _, p := range spec.Mounts {
			if p.Type == mount.TypeTmpfs {
				continue
			}
			p.Anonymous = false // it goes with the container that it was made for
			if mode == "ro" {
				p.ReadOnly = true
			}
			plan.points[p.Destination] = p
		}
	}
	return nil
}

// makeSource makes the missing folder of the host that -v names.
func makeSource(p mountspec.Point) error {
	if !p.CreateSource {
		if _, err := os.Stat(p.Source); err != nil {
			return invalid("invalid mount config for type %q: bind source path does not exist: %s", p.Type, p.Source)
		}
		return nil
	}
	if fileExists(p.Source) {
		return nil
	}
	if err := os.MkdirAll(p.Source, 0o755); err != nil {
		return system("error while creating mount source path '%s': %w", p.Source, err)
	}
	return nil
}
