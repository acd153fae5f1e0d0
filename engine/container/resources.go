//go:build linux

package container

import (
	"fmt"
	"slices"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
)

const minMemory = 6 << 20 // bytes; below it no process starts, and Docker refuses it

// validateResources says what the kernel could never do. What this one cannot do is dropped by dropUnsupported with a warning.
func (s *Service) validateResources(r *container.Resources) error {
	return firstError(
		func() error { return validateMemory(r) },
		func() error { return s.validateCPU(r) },
		func() error { return s.validateCpuset(r) },
		func() error { return validateBlkio(r) },
	)
}

func validateMemory(r *container.Resources) error {
	switch {
	case r.Memory != 0 && r.Memory < minMemory:
		return invalid("Minimum memory limit allowed is 6MB")
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	case r.Memory == 0 && r.MemorySwap > 0:
		return invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	case r.MemorySwap < -1:
		return invalid("invalid memory swap: %d", r.MemorySwap)
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100):
		return invalid("Invalid value: %v, valid memory swappiness range is 0-100", *r.MemorySwappiness)
	case r.MemoryReservation != 0 && r.MemoryReservation < minMemory:
		return invalid("Minimum memory reservation allowed is 6MB")
	case r.Memory > 0 && r.MemoryReservation > r.Memory:
		return invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	return nil
}

func (s *Service) validateCPU(r *container.Resources) error {
	switch {
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set.")
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set.")
	case r.NanoCPUs < 0 || r.NanoCPUs > int64(s.sys.cpus)*1e9:
		return invalid("range of CPUs is from 0.01 to %[1]d.00, as there are only %[1]d CPUs available", s.sys.cpus)
	case r.CPUShares < 0:
		return invalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1_000_000):
		return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case (r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0) && !s.sys.cpuRealtime:
		return invalid("kernel does not support CPU real-time scheduler")
	case r.CPURealtimePeriod != 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod:
		return invalid("cpu real-time runtime cannot be higher than cpu real-time period")
	}
	return nil
}

func (s *Service) validateCpuset(r *container.Resources) error {
	if _, ok := parseSet(r.CpusetCpus); !ok {
		return invalid("Invalid value %s for cpuset cpus", r.CpusetCpus)
	}
	if _, ok := parseSet(r.CpusetMems); !ok {
		return invalid("Invalid value %s for cpuset mems", r.CpusetMems)
	}
	if !within(r.CpusetCpus, s.sys.cpuset) {
		return invalid("Requested CPUs are not available - requested %s, available: %s", r.CpusetCpus, s.sys.cpuset)
	}
	if !within(r.CpusetMems, s.sys.mems) {
		return invalid("Requested memory nodes are not available - requested %s, available: %s", r.CpusetMems, s.sys.mems)
	}
	return nil
}

func validateBlkio(r *container.Resources) error {
	if r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		return invalid("Range of blkio weight is from 10 to 1000")
	}
	for _, d := range r.BlkioWeightDevice {
		if d == nil || d.Path == "" {
			return invalid("invalid blkio weight device: the path is empty")
		}
	}
	for _, list := range [][]*blkiodev.ThrottleDevice{
		r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps} {
		if slices.ContainsFunc(list, func(d *blkiodev.ThrottleDevice) bool { return d == nil || d.Path == "" }) {
			return invalid("invalid blkio throttle device: the path is empty")
		}
	}
	return nil
}

// dropUnsupported takes out the limits that this kernel does not have, each with Docker's warning.
func (k kernel) dropUnsupported(r *container.Resources) []string {
	var warnings []string
	drop := func(given, supported bool, warning string, clear func()) {
		if given && !supported {
			warnings = append(warnings, warning)
			clear()
		}
	}
	const lacks = "Your kernel does not support %s or the cgroup is not mounted. %s"
	drop(r.Memory > 0, k.memory, fmt.Sprintf(lacks, "memory limit capabilities", "Limitation discarded."),
		func() { r.Memory, r.MemorySwap = 0, -1 })
	drop(r.Memory > 0 && r.MemorySwap != -1, k.swap, fmt.Sprintf(lacks, "swap limit capabilities", "Memory limited without swap."),
		func() { r.MemorySwap = -1 })
	drop(r.MemorySwappiness != nil && *r.MemorySwappiness != -1, k.swappiness,
		fmt.Sprintf(lacks, "memory swappiness capabilities", "Memory swappiness discarded."), func() { r.MemorySwappiness = nil })
	drop(r.MemoryReservation > 0, k.memory, fmt.Sprintf(lacks, "memory soft limit capabilities", "Limitation discarded."),
		func() { r.MemoryReservation = 0 })
	if r.OomKillDisable != nil && !*r.OomKillDisable && !k.oomDisable {
		r.OomKillDisable = nil // what cannot be turned off is on
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness == -1 {
		r.MemorySwappiness = nil // how old clients say that they have no wish
	}
	drop(r.OomKillDisable != nil && *r.OomKillDisable, k.oomDisable,
		"Your kernel does not support OomKillDisable. OomKillDisable discarded.", func() { r.OomKillDisable = nil })
	drop(r.PidsLimit != nil && *r.PidsLimit > 0, k.pids, fmt.Sprintf(lacks, "PIDs limit capabilities", "PIDs limit discarded."),
		func() { r.PidsLimit = nil })
	drop(r.NanoCPUs > 0 || r.CPUPeriod > 0 || r.CPUQuota > 0, k.cpuCFS,
		fmt.Sprintf(lacks, "CPU CFS scheduler", "CPU period and quota discarded."), func() { r.NanoCPUs, r.CPUPeriod, r.CPUQuota = 0, 0, 0 })
	drop(r.CPUShares > 0, k.cpuShares, fmt.Sprintf(lacks, "CPU shares", "Shares discarded."), func() { r.CPUShares = 0 })
	drop(r.BlkioWeight > 0 || len(r.BlkioWeightDevice) > 0, k.blkioWeight,
		fmt.Sprintf(lacks, "Block I/O weight", "Weight discarded."), func() { r.BlkioWeight, r.BlkioWeightDevice = 0, nil })
	limited := len(r.BlkioDeviceReadBps)+len(r.BlkioDeviceWriteBps)+len(r.BlkioDeviceReadIOps)+len(r.BlkioDeviceWriteIOps) > 0
	drop(limited, k.blkioLimit, fmt.Sprintf(lacks, "Block I/O limits", "Limits discarded."), func() {
		r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps = nil, nil, nil, nil
	})
	return warnings
}
