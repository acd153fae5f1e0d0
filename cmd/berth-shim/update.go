//go:build linux

package main

import (
	"github.com/opencontainers/cgroups"
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
	if r.BlockIO != nil && r.BlockIO.Weight != nil {
		limits.BlkioWeight = *r.BlockIO.Weight
	}
	if r.Unified != nil {
		limits.Unified = r.Unified
	}
	return s.container.Set(config)
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
	if m.CheckBeforeUpdate != nil {
		to.MemoryCheckBeforeUpdate = *m.CheckBeforeUpdate
	}
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
