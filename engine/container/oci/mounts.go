//go:build linux

package oci

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/getberth/berth/engine/container/mountspec"
)

// DefaultMaskedPaths are hidden from a container that is not privileged.
func DefaultMaskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
}

// DefaultReadonlyPaths cannot be written by a container that is not privileged.
func DefaultReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// DefaultShmSize is the size of /dev/shm in bytes.
const DefaultShmSize = 64 << 20

// mounts lists the system's own, then those asked for, parents first. One asked for replaces the system's at the same place.
func mounts(in Input, sec Security) []specs.Mount {
	var list []specs.Mount
	taken := map[string]bool{}
	for _, m := range in.Mounts {
		taken[m.Destination] = true
	}
	for _, m := range systemMounts(in, sec) {
		if !taken[m.Destination] {
			list = append(list, m)
		}
	}
	asked := slices.Clone(in.Mounts)
	slices.SortStableFunc(asked, func(a, b specs.Mount) int { return depth(a.Destination) - depth(b.Destination) })
	return append(list, asked...)
}

func depth(p string) int { return strings.Count(path.Clean(p), "/") }

func systemMounts(in Input, sec Security) []specs.Mount {
	access := "ro"
	if in.HostConfig.Privileged {
		access = "rw"
	}
	cgroupAccess := access
	if sec.WritableCgroups {
		cgroupAccess = "rw"
	}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
			Options: []string{cgroupAccess, "nosuid", "noexec", "nodev"}},
	}
	switch {
	case in.HostConfig.IpcMode.IsHost() && exists("/dev/mqueue"):
		list = append(list, bind("/dev/mqueue", "/dev/mqueue"))
	case in.HostConfig.IpcMode.IsHost(): // nor has the host one
	default:
		list = append(list, specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue",
			Options: []string{"nosuid", "noexec", "nodev"}})
	}
	return append(list, shm(in)...)
}

func shm(in Input) []specs.Mount {
	switch {
	case in.HostConfig.IpcMode.IsNone():
		return nil
	case in.HostConfig.IpcMode.IsHost() && exists("/dev/shm"):
		return []specs.Mount{bind("/dev/shm", "/dev/shm")}
	case in.ShmPath != "":
		return []specs.Mount{bind(in.ShmPath, "/dev/shm")}
	}
	return []specs.Mount{{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: ShmOptions(in.HostConfig.ShmSize)}}
}

// ShmOptions are the mount options of a /dev/shm; size is in bytes, 0 means the default.
func ShmOptions(size int64) []string {
	if size <= 0 {
		size = DefaultShmSize
	}
	return []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", size)}
}

func bind(source, dest string) specs.Mount {
	return specs.Mount{Destination: dest, Type: "bind", Source: source, Options: []string{"rbind", "rprivate"}}
}

// BindFile is a file of the engine's that the container may see, e.g. /etc/hosts.
func BindFile(source, dest string, readonly bool) specs.Mount {
	m := bind(source, dest)
	if readonly {
		m.Options = append(m.Options, "ro")
	}
	return m
}

// PointMount is the mount of one point; source is the folder of a volume, and unused for other types.
func PointMount(p mountspec.Point, source string) specs.Mount {
	switch p.Type {
	case mount.TypeTmpfs:
		return specs.Mount{Destination: p.Destination, Type: "tmpfs", Source: "tmpfs", Options: p.Options}
	case mount.TypeBind:
		source = p.Source
	}
	propagation := string(p.Propagation)
	if propagation == "" {
		propagation = string(mount.PropagationRPrivate)
	}
	kind := "rbind"
	if p.NonRecursive {
		kind = "bind"
	}
	options := []string{kind, propagation}
	return specs.Mount{Destination: p.Destination, Type: "bind", Source: source, Options: append(options, access(p)...)}
}

// access: what is mounted below a read-only bind is read-only too, since kernel 5.12, unless asked otherwise.
func access(p mountspec.Point) []string {
	switch {
	case !p.ReadOnly:
		return nil
	case p.Type == mount.TypeBind && !p.NonRecursive && !p.ReadOnlyNonRecursive && p.Propagation == mount.PropagationRPrivate:
		return []string{"ro", "rro"}
	}
	return []string{"ro"}
}

// rootPropagation must not cut off what a shared or slave mount is to receive.
func rootPropagation(list []specs.Mount) string {
	result := ""
	for _, m := range list {
		for _, o := range m.Options {
			switch o {
			case "shared", "rshared":
				return "rshared"
			case "slave", "rslave":
				result = "rslave"
			}
		}
	}
	return result
}
