//go:build linux

package container

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// kernel is what the host's cgroups can limit.
type kernel struct {
	v2          bool
	memory      bool
	swap        bool
	swappiness  bool
	oomDisable  bool
	cpuCFS      bool
	cpuShares   bool
	cpuRealtime bool
	pids        bool
	blkioWeight bool
	blkioLimit  bool
	cpus        int
	cpuset      string // e.g. 0-3; empty when unknown
	mems        string
}

const cgroupRoot = "/sys/fs/cgroup"

// detectKernel looks once; controllers do not come and go while the engine runs.
func detectKernel() kernel {
	if fileExists(filepath.Join(cgroupRoot, "cgroup.controllers")) {
		return detectV2()
	}
	return detectV1()
}

func detectV2() kernel {
	have := strings.Fields(readText(filepath.Join(cgroupRoot, "cgroup.controllers")))
	has := func(name string) bool { return slices.Contains(have, name) }
	return kernel{
		v2: true, cpus: runtime.NumCPU(), memory: has("memory"), swap: has("memory") && swapAccounting(), cpuCFS: has("cpu"),
		cpuShares: has("cpu"), pids: has("pids"), blkioWeight: has("io"), blkioLimit: has("io"),
		cpuset: readText(filepath.Join(cgroupRoot, "cpuset.cpus.effective")),
		mems:   readText(filepath.Join(cgroupRoot, "cpuset.mems.effective")),
	}
}

// swapAccounting: the root cgroup has no memory.swap.max, so the first child tells; without children it is taken as there.
func swapAccounting() bool {
	children, _ := filepath.Glob(filepath.Join(cgroupRoot, "*", "memory.max"))
	if len(children) == 0 {
		return true
	}
	return fileExists(filepath.Join(filepath.Dir(children[0]), "memory.swap.max"))
}

func detectV1() kernel {
	in := func(controller, file string) bool { return fileExists(filepath.Join(cgroupRoot, controller, file)) }
	return kernel{
		cpus: runtime.NumCPU(), memory: in("memory", "memory.limit_in_bytes"), swap: in("memory", "memory.memsw.limit_in_bytes"),
		swappiness: in("memory", "memory.swappiness"), oomDisable: in("memory", "memory.oom_control"),
		cpuCFS: in("cpu", "cpu.cfs_quota_us"), cpuShares: in("cpu", "cpu.shares"), cpuRealtime: in("cpu", "cpu.rt_runtime_us"),
		pids: fileExists(filepath.Join(cgroupRoot, "pids")), blkioWeight: in("blkio", "blkio.weight") || in("blkio", "blkio.bfq.weight"),
		blkioLimit: in("blkio", "blkio.throttle.read_bps_device"),
		cpuset:     readText(filepath.Join(cgroupRoot, "cpuset", "cpuset.cpus")),
		mems:       readText(filepath.Join(cgroupRoot, "cpuset", "cpuset.mems")),
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// readText is a small file without the white space around it; empty when it cannot be read.
func readText(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// parseSet reads a list such as "0-2,7". bounded keeps a hostile one from costing memory.
func parseSet(list string) (map[int]bool, bool) {
	const bounded = 8192 // the kernel's NR_CPUS limit on x86
	set := map[int]bool{}
	if list == "" {
		return set, true
	}
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(first)
		b := a
		if isRange && err == nil {
			b, err = strconv.Atoi(last)
		}
		if err != nil || a < 0 || b < a || b >= bounded {
			return nil, false
		}
		for i := a; i <= b; i++ {
			set[i] = true
		}
	}
	return set, true
}

// within says whether every member of list is in available; an unknown available holds everything.
func within(list, available string) bool {
	have, ok := parseSet(available)
	if !ok || available == "" {
		return true
	}
	want, _ := parseSet(list)
	for n := range want {
		if !have[n] {
			return false
		}
	}
	return true
}
