//go:build linux

package container

import (
	"context"
	"fmt"
	"reflect"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/getberth/berth/engine/container/oci"
)

// Update changes limits and the restart policy; what is not set stays. A running container's cgroup follows at once.
func (s *Service) Update(ctx context.Context, ref string, u container.UpdateConfig) (container.UpdateResponse, error) {
	c, spec, state, unlock, err := s.locked(ctx, ref)
	if err != nil {
		return container.UpdateResponse{}, err
	}
	defer unlock()
	if state.Status == container.StateRestarting {
		return container.UpdateResponse{}, conflict("cannot update container %s: container is restarting, wait until the container is running", c.id)
	}
	hc, warnings, err := s.updated(spec, u)
	if err != nil {
		return container.UpdateResponse{}, err
	}
	if state.running() {
		r, err := oci.Resources(hc.Resources, s.sys.v2)
		if err != nil {
			return container.UpdateResponse{}, invalid("%v", err)
		}
		s.withoutSwap(r)
		if err := s.deps.Runtime.Update(ctx, c.id, r); err != nil {
			return container.UpdateResponse{}, fmt.Errorf("Cannot update container %s: %w", c.id, err)
		}
	}
	spec = c.setSpec(func(sp *Spec) { sp.HostConfig = hc })
	if err := s.store.saveSpec(spec); err != nil {
		return container.UpdateResponse{}, err
	}
	s.emit(spec, events.ActionUpdate)
	return container.UpdateResponse{Warnings: notNil(warnings)}, nil
}

// updated applies a request to a copy of the host configuration, and checks the whole.
func (s *Service) updated(spec *Spec, u container.UpdateConfig) (*container.HostConfig, []string, error) {
	if err := updatable(u.Resources); err != nil {
		return nil, nil, err
	}
	hc := *spec.HostConfig
	if err := overlayResources(&hc.Resources, u.Resources); err != nil {
		return nil, nil, err
	}
	if u.RestartPolicy.Name != "" {
		if hc.AutoRemove && !u.RestartPolicy.IsNone() {
			return nil, nil, conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		hc.RestartPolicy = u.RestartPolicy
	}
	if err := firstError(
		func() error { return validateRestart(&hc) },
		func() error { return s.validateResources(&hc.Resources) },
	); err != nil {
		return nil, nil, err
	}
	return &hc, s.sys.dropUnsupported(&hc.Resources), nil
}

// updatable refuses what cannot be changed once a container has been made.
func updatable(r container.Resources) error {
	for name, set := range map[string]bool{
		"CgroupParent": r.CgroupParent != "", "Devices": len(r.Devices) > 0, "DeviceCgroupRules": len(r.DeviceCgroupRules) > 0,
		"DeviceRequests": len(r.DeviceRequests) > 0, "Ulimits": len(r.Ulimits) > 0, "OomKillDisable": r.OomKillDisable != nil && *r.OomKillDisable,
	} {
		if set {
			return invalid("%s cannot be updated", name)
		}
	}
	return nil
}

// overlayResources copies the fields that are set. NanoCPUs and a quota displace each other.
func overlayResources(to *container.Resources, from container.Resources) error {
	switch {
	case from.NanoCPUs > 0 && to.CPUPeriod > 0:
		return conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
	case from.NanoCPUs > 0 && to.CPUQuota > 0:
		return conflict("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
	case from.CPUQuota > 0 && to.NanoCPUs > 0:
		return conflict("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
	case from.CPUPeriod > 0 && to.NanoCPUs > 0:
		return conflict("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
	}
	if from.Memory != 0 && from.MemorySwap == 0 && to.MemorySwap > 0 && from.Memory > to.MemorySwap {
		return conflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	t, f := reflect.ValueOf(to).Elem(), reflect.ValueOf(from)
	for i := range f.NumField() {
		if !f.Field(i).IsZero() {
			t.Field(i).Set(f.Field(i))
		}
	}
	return nil
}

// Rename gives a container another name.
func (s *Service) Rename(ctx context.Context, ref, name string) error {
	if name == "" {
		return invalid("Neither old nor new names may be empty")
	}
	name, err := checkName(name)
	if err != nil {
		return err
	}
	c, spec, state, unlock, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	old := spec.Name
	if name == old {
		return invalid("Renaming a container with the same name as its current name")
	}
	if err := s.reg.reserve(name, c.id); err != nil {
		return err
	}
	next := *spec
	next.Name = name
	if err := s.store.saveSpec(&next); err != nil {
		s.reg.release(name, c.id)
		return err
	}
	spec = c.setSpec(func(sp *Spec) { sp.Name = name })
	s.reg.release(old, c.id)
	if r, ok := s.deps.Networks.(renamer); ok && state.running() {
		if err := r.Rename(ctx, c.id, old, name); err != nil {
			s.log.Warn("renaming a container in its networks", "id", c.id, "error", err)
		}
	}
	s.emit(spec, events.ActionRename, "oldName", "/"+old)
	return nil
}
