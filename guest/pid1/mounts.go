//go:build linux

package pid1

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// mountAll mounts what the kernel offers; /proc, /sys and /dev came along from the initial RAM disk.
func mountAll() error {
	for _, m := range []struct {
		source, target, fs string
		flags              uintptr
		data               string
	}{
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"mqueue", "/dev/mqueue", "mqueue", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755,size=20%"},
		{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"cgroup2", cgroupRoot, "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "nsdelegate,memory_recursiveprot"},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil && !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EPERM) {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.fs, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting %s on %s: %w", m.fs, m.target, err)
		}
	}
	// Mount propagation as systemd sets it: binds into containers may be shared.
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("sharing the root mount: %w", err)
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(target, filepath.Join("/dev", name)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	// The file tells provisioning which kind of machine this is.
	if err := os.WriteFile("/run/berth-init", nil, 0o644); err != nil {
		return err
	}
	return delegateControllers()
}

// mountBPF is apart, since the kernel looks for a module as it does so, by a program that it starts.
func mountBPF() error {
	if err := unix.Mount("bpf", "/sys/fs/bpf", "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("mounting bpf on /sys/fs/bpf: %w", err)
	}
	return nil
}

// delegateControllers turns on every controller for the root's children, where containers and the engine have groups.
func delegateControllers() error {
	b, err := os.ReadFile(cgroupRoot + "/cgroup.controllers")
	if err != nil {
		return err
	}
	var on []string
	for _, c := range strings.Fields(string(b)) {
		on = append(on, "+"+c)
	}
	if err := os.WriteFile(cgroupRoot+"/cgroup.subtree_control", []byte(strings.Join(on, " ")), 0); err != nil {
		return fmt.Errorf("delegating cgroup controllers: %w", err)
	}
	return nil
}

// sysctls are what containers expect of a host. Sources: the kernel's Documentation/admin-guide/sysctl.
var sysctls = map[string]string{
	"net/ipv4/ip_forward":           "1",
	"net/ipv4/ping_group_range":     "0 2147483647",
	"net/ipv4/conf/all/rp_filter":   "0", // published ports come back through other interfaces
	"kernel/panic_on_oops":          "1",
	"kernel/dmesg_restrict":         "1",
	"kernel/keys/maxkeys":           "100000", // runc makes a keyring for each container
	"kernel/keys/maxbytes":          "2500000",
	"fs/inotify/max_user_instances": "8192",
	"fs/inotify/max_user_watches":   "524288",
	"vm/overcommit_memory":          "1",
	"vm/min_free_kbytes":            "8192",   // huge pages raise it from 6 MB to 67 MB, which programs then cannot have
	"vm/max_map_count":              "262144", // Elasticsearch and its kin refuse less
	"fs/protected_hardlinks":        "1",
	"fs/protected_symlinks":         "1",
}

func setSysctls() error {
	var errs []error
	for key, value := range sysctls {
		if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0); err != nil {
			errs = append(errs, fmt.Errorf("sysctl %s=%s: %w", key, value, err))
		}
	}
	return errors.Join(errs...)
}
