//go:build linux

package runtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// Stats reads the container's cgroup. Names, networks and the previous sample are the caller's.
func (s *Service) Stats(_ context.Context, id string) (container.StatsResponse, error) {
	group, err := s.groupOfRunning(id)
	if err != nil {
		return container.StatsResponse{}, err
	}
	stats, err := group.manager.GetStats()
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return container.StatsResponse{}, notRunning(id)
	}
	if err != nil {
		return container.StatsResponse{}, fmt.Errorf("reading the cgroup of container %s: %w", id, err)
	}
	r := container.StatsResponse{
		ID: id, OSType: "linux", Read: time.Now().UTC(),
		CPUStats: cpuStats(stats.CpuStats, group.v2), MemoryStats: memoryStats(stats.MemoryStats, group.v2),
		BlkioStats: blkioStats(stats.BlkioStats), PidsStats: container.PidsStats{Current: stats.PidsStats.Current, Limit: stats.PidsStats.Limit},
	}
	r.CPUStats.SystemUsage, r.CPUStats.OnlineCPUs, err = systemCPU()
	if err != nil {
		return r, fmt.Errorf("reading the host's CPU usage: %w", err)
	}
	total, err := memTotal()
	if err != nil {
		return r, fmt.Errorf("reading the host's memory: %w", err)
	}
	if r.MemoryStats.Limit == 0 || r.MemoryStats.Limit > total { // no limit
		r.MemoryStats.Limit = total
	}
	return r, nil
}

// Processes are the pids of all processes of the container.
func (s *Service) Processes(_ context.Context, id string) ([]int, error) {
	group, err := s.groupOfRunning(id)
	if err != nil {
		return nil, err
	}
	pids, err := group.pids()
	if err != nil {
		return nil, fmt.Errorf("listing the processes of container %s: %w", id, err)
	}
	return pids, nil
}

func (s *Service) groupOfRunning(id string) (*group, error) {
	bundle, err := s.bundle(id)
	if err != nil {
		return nil, err
	}
	group, err := s.groupOf(bundle)
	switch {
	case err != nil:
		return nil, err
	case group == nil:
		return nil, notFound(id)
	case !group.manager.Exists():
		return nil, notRunning(id)
	}
	return group, nil
}

func cpuStats(c cgroups.CpuStats, v2 bool) container.CPUStats {
	r := container.CPUStats{
		CPUUsage: container.CPUUsage{
			TotalUsage: c.CpuUsage.TotalUsage, UsageInKernelmode: c.CpuUsage.UsageInKernelmode,
			UsageInUsermode: c.CpuUsage.UsageInUsermode,
		},
		ThrottlingData: container.ThrottlingData{
			Periods: c.ThrottlingData.Periods, ThrottledPeriods: c.ThrottlingData.ThrottledPeriods,
			ThrottledTime: c.ThrottlingData.ThrottledTime,
		},
	}
	if !v2 { // v2 does not count by CPU
		r.CPUUsage.PercpuUsage = c.CpuUsage.PercpuUsage
	}
	return r
}

func memoryStats(m cgroups.MemoryStats, v2 bool) container.MemoryStats {
	r := container.MemoryStats{Usage: m.Usage.Usage, Stats: m.Stats, Limit: m.Usage.Limit, Failcnt: m.Usage.Failcnt}
	if !v2 {
		r.MaxUsage = m.Usage.MaxUsage
	}
	return r
}

func blkioStats(b cgroups.BlkioStats) container.BlkioStats {
	return container.BlkioStats{
		IoServiceBytesRecursive: entries(b.IoServiceBytesRecursive), IoServicedRecursive: entries(b.IoServicedRecursive),
		IoQueuedRecursive: entries(b.IoQueuedRecursive), IoServiceTimeRecursive: entries(b.IoServiceTimeRecursive),
		IoWaitTimeRecursive: entries(b.IoWaitTimeRecursive), IoMergedRecursive: entries(b.IoMergedRecursive),
		IoTimeRecursive: entries(b.IoTimeRecursive), SectorsRecursive: entries(b.SectorsRecursive),
	}
}

func entries(from []cgroups.BlkioStatEntry) []container.BlkioStatEntry {
	if len(from) == 0 {
		return nil
	}
	to := make([]container.BlkioStatEntry, len(from))
	for i, e := range from {
		to[i] = container.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: e.Op, Value: e.Value}
	}
	return to
}

// systemCPU is the time, in nanoseconds, that all CPUs have spent since boot, idle or not, and how many are online.
func systemCPU() (nanoseconds uint64, online uint32, err error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		fields := strings.Fields(scan.Text())
		if len(fields) < 8 || !strings.HasPrefix(fields[0], "cpu") {
			break
		}
		if fields[0] != "cpu" {
			online++
			continue
		}
		for _, field := range fields[1:8] { // user to softirq, in USER_HZ, which is 100 for every program (proc(5))
			ticks, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				return 0, 0, err
			}
			nanoseconds += ticks * uint64(time.Second/100)
		}
	}
	return nanoseconds, online, scan.Err()
}

func memTotal() (uint64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, err
	}
	return uint64(info.Totalram) * uint64(info.Unit), nil
}
