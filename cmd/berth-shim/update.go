//go:build linux

package main

import (
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/getberth/berth/engine/runtime/shim"
)

// update changes the limits that r names and leaves the others.
func (s *supervisor) update(r *specs.LinuxResources) error {
	if r == nil {
		return invalid("no resources were given")
	}
	if s.snapshot().Status == shim.Stopped {
		return notRunning()
	}
	config := s.container.Config()
	group := *config.Cgroups
	limits := *group.Resources
	limits.Freezer = cgroups.Undefined
	group.Resources, config.Cgroups = &limits, &group
	setCPU(&limits, r.CPU)
	setMemory(&limits, r.Memory)
	if r.Pids != nil {
		limits.PidsLimit = r.Pids.Limit
	}
	if r.Unified != nil {
		limits.Unified = r.Unified
	}
	if err := setLists(&limits, r); err != nil {
		return err
	}
	return s.container.Set(config)
}

// setLists changes limits of single devices and page sizes; specconv knows how. Device rules never change.
func setLists(to *cgroups.Resources, r *specs.LinuxResources) error {
	if r.BlockIO == nil && len(r.HugepageLimits) == 0 {
		return nil
	}
	spec := &specs.Spec{Linux: &specs.Linux{Resources: &specs.LinuxResources{BlockIO: r.BlockIO, HugepageLimits: r.HugepageLimits}}}
	from, err := specconv.CreateCgroupConfig(&specconv.CreateOpts{Spec: spec}, nil)
	if err != nil {
		return invalid("%v", err)
	}
	if b := r.BlockIO; b != nil {
		set(&to.BlkioWeight, b.Weight)
		set(&to.BlkioLeafWeight, b.LeafWeight)
		setList(&to.BlkioWeightDevice, from.Resources.BlkioWeightDevice)
		setList(&to.BlkioThrottleReadBpsDevice, from.Resources.BlkioThrottleReadBpsDevice)
		setList(&to.BlkioThrottleWriteBpsDevice, from.Resources.BlkioThrottleWriteBpsDevice)
		setList(&to.BlkioThrottleReadIOPSDevice, from.Resources.BlkioThrottleReadIOPSDevice)
		setList(&to.BlkioThrottleWriteIOPSDevice, from.Resources.BlkioThrottleWriteIOPSDevice)
	}
	setList(&to.HugetlbLimit, from.Resources.HugetlbLimit)
	return nil
}

func setList[T any](to *[]T, from []T) {
	if len(from) > 0 {
		*to = from
	}
}

func setCPU(to *cgroups.Resources, c *specs.LinuxCPU) {
	if c == nil {
		return
	}
	if c.Shares != nil {
		to.CpuShares = *c.Shares
		to.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(*c.Shares)
	}
	set(&to.CpuQuota, c.Quota)
	set(&to.CpuPeriod, c.Period)
	set(&to.CpuRtRuntime, c.RealtimeRuntime)
	set(&to.CpuRtPeriod, c.RealtimePeriod)
	if c.Cpus != "" {
		to.CpusetCpus = c.Cpus
	}
	if c.Mems != "" {
		to.CpusetMems = c.Mems
	}
	if c.Burst != nil {
		to.CpuBurst = c.Burst
	}
	if c.Idle != nil {
		to.CPUIdle = c.Idle
	}
}

func setMemory(to *cgroups.Resources, m *specs.LinuxMemory) {
	if m == nil {
		return
	}
	set(&to.Memory, m.Limit)
	set(&to.MemorySwap, m.Swap)
	set(&to.MemoryReservation, m.Reservation)
	set(&to.OomKillDisable, m.DisableOOMKiller)
	if m.Swappiness != nil {
		to.MemorySwappiness = m.Swappiness
	}
	if m.CheckBeforeUpdate != nil {
		to.MemoryCheckBeforeUpdate = *m.CheckBeforeUpdate
	}
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
