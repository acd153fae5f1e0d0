//go:build linux

package oci

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// addDevices puts the host's devices that were asked for, or all of them for a privileged container, into the specification.
func addDevices(spec *specs.Spec, hc *container.HostConfig) error {
	if hc.Privileged {
		spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		devices, err := hostDevices("/dev", "/dev")
		spec.Linux.Devices = devices
		return err
	}
	rules := defaultDeviceRules()
	for _, m := range hc.Devices {
		devices, more, err := mapDevice(m)
		if err != nil {
			return err
		}
		spec.Linux.Devices = append(spec.Linux.Devices, devices...)
		rules = append(rules, more...)
	}
	for _, raw := range hc.DeviceCgroupRules {
		rule, err := ParseDeviceRule(raw)
		if err != nil {
			return err
		}
		rules = append(rules, rule)
	}
	spec.Linux.Resources.Devices = rules
	return nil
}

func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	rule := func(typ string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		r := specs.LinuxDeviceCgroup{Allow: true, Type: typ, Major: &major, Minor: &minor, Access: access}
		if major < 0 {
			r.Major = nil
		}
		if minor < 0 {
			r.Minor = nil
		}
		return r
	}
	return []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		rule("c", -1, -1, "m"), // making any node is allowed, opening it is not
		rule("b", -1, -1, "m"),
		rule("c", 1, 3, "rwm"),    // null
		rule("c", 1, 5, "rwm"),    // zero
		rule("c", 1, 7, "rwm"),    // full
		rule("c", 1, 8, "rwm"),    // random
		rule("c", 1, 9, "rwm"),    // urandom
		rule("c", 5, 0, "rwm"),    // tty
		rule("c", 5, 1, "rwm"),    // console
		rule("c", 5, 2, "rwm"),    // ptmx
		rule("c", 136, -1, "rwm"), // pts/*
	}
}

// mapDevice resolves one --device: a node, or a folder of nodes.
func mapDevice(m container.DeviceMapping) ([]specs.LinuxDevice, []specs.LinuxDeviceCgroup, error) {
	if err := CheckDeviceAccess(m.CgroupPermissions); err != nil {
		return nil, nil, err
	}
	inside := m.PathInContainer
	if inside == "" {
		inside = m.PathOnHost
	}
	real, err := filepath.EvalSymlinks(m.PathOnHost)
	if err != nil {
		return nil, nil, fmt.Errorf("error gathering device information while adding custom device %q: %w", m.PathOnHost, err)
	}
	devices, err := hostDevices(real, inside)
	if err == nil && len(devices) == 0 {
		err = fmt.Errorf("not a device node")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("error gathering device information while adding custom device %q: %w", m.PathOnHost, err)
	}
	var rules []specs.LinuxDeviceCgroup
	for i := range devices {
		d := &devices[i]
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor,
			Access: accessOrAll(m.CgroupPermissions)})
	}
	return devices, rules, nil
}

func accessOrAll(access string) string {
	if access == "" {
		return "rwm"
	}
	return access
}

// CheckDeviceAccess says whether access is made of r, w and m, once each.
func CheckDeviceAccess(access string) error {
	for i, c := range access {
		if !strings.ContainsRune("rwm", c) || strings.ContainsRune(access[:i], c) {
			return fmt.Errorf("invalid device mode: %s", access)
		}
	}
	return nil
}

// hostDevices returns the nodes at or below root, named as below inside. What a /dev of the container's own has anyway is left out.
func hostDevices(root, inside string) ([]specs.LinuxDevice, error) {
	var list []specs.LinuxDevice
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			if p == root {
				return err
			}
			return nil // gone meanwhile
		}
		if e.IsDir() {
			switch e.Name() {
			case "pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev":
				if p != root {
					return fs.SkipDir
				}
			}
			return nil
		}
		if e.Name() == "console" || e.Type()&fs.ModeDevice == 0 {
			return nil
		}
		rel, _ := filepath.Rel(root, p)
		if d, err := device(p, filepath.Join(inside, rel)); err == nil {
			list = append(list, d)
		}
		return nil
	})
	return list, err
}

func device(hostPath, inside string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Lstat(hostPath, &st); err != nil {
		return specs.LinuxDevice{}, err
	}
	typ := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		typ = "c"
	case unix.S_IFBLK:
		typ = "b"
	default:
		return specs.LinuxDevice{}, fmt.Errorf("not a device node")
	}
	mode := os.FileMode(st.Mode & 0o777)
	uid, gid := st.Uid, st.Gid
	return specs.LinuxDevice{Path: inside, Type: typ, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &uid, GID: &gid}, nil
}

// ParseDeviceRule reads a rule as --device-cgroup-rule has it: TYPE MAJOR:MINOR ACCESS, e.g. "c 10:* rw".
func ParseDeviceRule(raw string) (specs.LinuxDeviceCgroup, error) {
	bad := fmt.Errorf("invalid device cgroup rule format: '%s'", raw)
	fields := strings.Split(raw, " ")
	if len(fields) != 3 || !strings.Contains("abc", fields[0]) || len(fields[0]) != 1 || fields[2] == "" || CheckDeviceAccess(fields[2]) != nil {
		return specs.LinuxDeviceCgroup{}, bad
	}
	major, minor, ok := strings.Cut(fields[1], ":")
	if !ok {
		return specs.LinuxDeviceCgroup{}, bad
	}
	rule := specs.LinuxDeviceCgroup{Allow: true, Type: fields[0], Access: fields[2]}
	var err1, err2 error
	rule.Major, err1 = wildcard(major)
	rule.Minor, err2 = wildcard(minor)
	if err1 != nil || err2 != nil {
		return specs.LinuxDeviceCgroup{}, bad
	}
	return rule, nil
}

func wildcard(s string) (*int64, error) {
	if s == "*" {
		return nil, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	v := int64(n)
	return &v, err
}
