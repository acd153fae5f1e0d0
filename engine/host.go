//go:build linux

package engine

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/google/uuid"
	"github.com/moby/moby/api/types/system"
	"golang.org/x/sys/unix"
)

// host is what `docker info` tells of the machine; it does not change while the engine runs.
type host struct {
	id       string // of this engine, kept in its data root
	name     string
	kernel   string // release
	arch     string // as uname has it
	system   string // e.g. Debian GNU/Linux 12 (bookworm)
	version  string // of the system
	memory   int64  // bytes
	cgroupV2 bool
	limits   limits
}

// limits are what the host's cgroups can limit.
type limits struct {
	memory, swap, cpuQuota, cpuShares, cpuset, pids, oom bool
}

func inspectHost(dataRoot string) (host, error) {
	h := host{system: "Linux"}
	var err error
	if h.id, err = engineID(filepath.Join(dataRoot, "engine-id")); err != nil {
		return host{}, err
	}
	if h.name, err = os.Hostname(); err != nil {
		return host{}, err
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return host{}, os.NewSyscallError("uname", err)
	}
	h.kernel, h.arch = unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])
	var s unix.Sysinfo_t
	if err := unix.Sysinfo(&s); err == nil {
		h.memory = int64(s.Totalram) * int64(s.Unit)
	}
	h.system, h.version = osRelease("/etc/os-release", "/usr/lib/os-release")
	h.cgroupV2, h.limits = inspectCgroups("/sys/fs/cgroup")
	return h, nil
}

// engineID reads the id in a file, or makes one.
func engineID(file string) (string, error) {
	data, err := os.ReadFile(file)
	if id := strings.TrimSpace(string(data)); err == nil && id != "" {
		return id, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id := uuid.NewString()
	return id, renameio.WriteFile(file, []byte(id+"\n"), 0o600)
}

// osRelease returns the system's name and version from the first of the files that there is. Its format is os-release(5)'s.
func osRelease(files ...string) (name, version string) {
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		defer f.Close()
		values := map[string]string{}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			key, value, _ := strings.Cut(lines.Text(), "=")
			values[key] = strings.Trim(value, `"'`)
		}
		if values["PRETTY_NAME"] != "" {
			return values["PRETTY_NAME"], values["VERSION_ID"]
		}
	}
	return "Linux", ""
}

func inspectCgroups(root string) (v2 bool, l limits) {
	data, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err == nil {
		have := strings.Fields(string(data))
		has := func(name string) bool { return slices.Contains(have, name) }
		return true, limits{
			memory: has("memory"), swap: has("memory"), cpuQuota: has("cpu"), cpuShares: has("cpu"),
			cpuset: has("cpuset"), pids: has("pids"),
		}
	}
	has := func(parts ...string) bool {
		_, err := os.Stat(filepath.Join(append([]string{root}, parts...)...))
		return err == nil
	}
	return false, limits{
		memory: has("memory", "memory.limit_in_bytes"), swap: has("memory", "memory.memsw.limit_in_bytes"),
		cpuQuota: has("cpu", "cpu.cfs_quota_us"), cpuShares: has("cpu", "cpu.shares"),
		cpuset: has("cpuset"), pids: has("pids"), oom: has("memory", "memory.oom_control"),
	}
}

// fill writes the host's part of an info.
func (h host) fill(info *system.Info) {
	info.ID, info.Name = h.id, h.name
	info.KernelVersion, info.OperatingSystem, info.OSVersion = h.kernel, h.system, h.version
	info.OSType, info.Architecture, info.MemTotal = "linux", h.arch, h.memory
	info.CgroupDriver, info.CgroupVersion = "cgroupfs", "1"
	if h.cgroupV2 {
		info.CgroupVersion = "2"
	}
	l := h.limits
	info.MemoryLimit, info.SwapLimit, info.OomKillDisable = l.memory, l.swap, l.oom
	info.CPUCfsPeriod, info.CPUCfsQuota, info.CPUShares, info.CPUSet, info.PidsLimit = l.cpuQuota, l.cpuQuota, l.cpuShares, l.cpuset, l.pids
	for _, w := range []struct {
		missing bool
		text    string
	}{
		{!l.memory, "WARNING: No memory limit support"},
		{!l.swap, "WARNING: No swap limit support"},
		{!l.cpuQuota, "WARNING: No cpu cfs quota support"},
		{!l.cpuShares, "WARNING: No cpu shares support"},
		{!l.cpuset, "WARNING: No cpuset support"},
		{!l.pids, "WARNING: No pids limit support"},
	} {
		if w.missing {
			info.Warnings = append(info.Warnings, w.text)
		}
	}
}
