//go:build linux

package oci

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Resources are the limits of a container's cgroup, for both versions of cgroups. It asks the kernel for the numbers of devices.
func Resources(r container.Resources, v2 bool) (*specs.LinuxResources, error) {
	blkio, err := blockIO(r)
	if err != nil {
		return nil, err
	}
	return &specs.LinuxResources{
		Memory:  memory(r, v2),
		CPU:     cpu(r),
		Pids:    pids(r),
		BlockIO: blkio,
	}, nil
}

func memory(r container.Resources, v2 bool) *specs.LinuxMemory {
	m := &specs.LinuxMemory{}
	if r.Memory != 0 {
		m.Limit = &r.Memory
	}
	if r.MemoryReservation != 0 {
		m.Reservation = &r.MemoryReservation
	}
	if r.MemorySwap != 0 {
		m.Swap = &r.MemorySwap
	}
	if s := r.MemorySwappiness; s != nil && *s >= 0 && !v2 {
		swappiness := uint64(*s)
		m.Swappiness = &swappiness
	}
	if r.OomKillDisable != nil && *r.OomKillDisable && !v2 {
		m.DisableOOMKiller = r.OomKillDisable
	}
	return m
}

// defaultPeriod is the scheduler's, in microseconds.
const defaultPeriod = 100_000

func cpu(r container.Resources) *specs.LinuxCPU {
	c := &specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	if r.CPUShares > 0 {
		shares := uint64(r.CPUShares)
		c.Shares = &shares
	}
	if r.NanoCPUs > 0 {
		period, quota := uint64(defaultPeriod), r.NanoCPUs*defaultPeriod/1e9
		c.Period, c.Quota = &period, &quota
	}
	if r.CPUPeriod != 0 {
		period := uint64(r.CPUPeriod)
		c.Period = &period
	}
	if r.CPUQuota != 0 {
		c.Quota = &r.CPUQuota
	}
	if r.CPURealtimePeriod != 0 {
		period := uint64(r.CPURealtimePeriod)
		c.RealtimePeriod = &period
	}
	if r.CPURealtimeRuntime != 0 {
		c.RealtimeRuntime = &r.CPURealtimeRuntime
	}
	return c
}

func pids(r container.Resources) *specs.LinuxPids {
	if r.PidsLimit == nil {
		return nil
	}
	limit := *r.PidsLimit
	if limit <= 0 {
		limit = -1
	}
	return &specs.LinuxPids{Limit: &limit}
}

func blockIO(r container.Resources) (*specs.LinuxBlockIO, error) {
	b := &specs.LinuxBlockIO{}
	if r.BlkioWeight != 0 {
		b.Weight = &r.BlkioWeight
	}
	for _, d := range r.BlkioWeightDevice {
		major, minor, err := deviceNumber(d.Path)
		if err != nil {
			return nil, err
		}
		wd := specs.LinuxWeightDevice{Weight: &d.Weight}
		wd.Major, wd.Minor = major, minor
		b.WeightDevice = append(b.WeightDevice, wd)
	}
	for _, t := range []struct {
		from []*blkiodev.ThrottleDevice
		to   *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &b.ThrottleReadBpsDevice},
		{r.BlkioDeviceWriteBps, &b.ThrottleWriteBpsDevice},
		{r.BlkioDeviceReadIOps, &b.ThrottleReadIOPSDevice},
		{r.BlkioDeviceWriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		if err := throttle(t.from, t.to); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func throttle(from []*blkiodev.ThrottleDevice, to *[]specs.LinuxThrottleDevice) error {
	for _, d := range from {
		major, minor, err := deviceNumber(d.Path)
		if err != nil {
			return err
		}
		td := specs.LinuxThrottleDevice{Rate: d.Rate}
		td.Major, td.Minor = major, minor
		*to = append(*to, td)
	}
	return nil
}

func deviceNumber(file string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return 0, 0, fmt.Errorf("device %s: %w", file, err)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}

// Rlimits are the engine's defaults with the container's own put over them.
func Rlimits(defaults, own []*container.Ulimit) []specs.POSIXRlimit {
	merged := map[string]*container.Ulimit{}
	for _, list := range [][]*container.Ulimit{defaults, own} {
		for _, u := range list {
			if u != nil {
				merged[strings.ToLower(u.Name)] = u
			}
		}
	}
	var list []specs.POSIXRlimit
	for name, u := range merged {
		list = append(list, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	slices.SortFunc(list, func(a, b specs.POSIXRlimit) int { return strings.Compare(a.Type, b.Type) })
	return list
}

// CheckUlimit says whether the kernel knows the limit.
func CheckUlimit(u *container.Ulimit) error {
	known := []string{"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
		"rttime", "sigpending", "stack"}
	switch {
	case u == nil:
		return fmt.Errorf("invalid ulimit: null")
	case !slices.Contains(known, strings.ToLower(u.Name)):
		return fmt.Errorf("invalid ulimit type: %s", u.Name)
	case u.Hard != -1 && (u.Soft == -1 || u.Soft > u.Hard):
		return fmt.Errorf("ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
	}
	return nil
}

// CgroupPath is where a container's cgroup is: below parent, or below the engine's own.
func CgroupPath(parent, id string) string {
	if parent == "" {
		parent = "/berth"
	}
	return path.Join("/", parent, id)
}
