//go:build linux

package oci

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// allCapabilities lists the kernel's capabilities, each at its number; see include/uapi/linux/capability.h.
func allCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
		"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
		"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
		"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP",
		"CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ",
		"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
	}
}

// defaultCapabilities are what every container has that drops nothing: Docker's fourteen.
func defaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

const allName = "ALL"

// Capabilities applies add and drop to the default set. available is what the engine itself has, one bit each: more it cannot
// give, and to ask for more is an error.
func Capabilities(add, drop []string, privileged bool, available uint64) ([]string, error) {
	adds, err := normalizeCaps(add)
	if err != nil {
		return nil, err
	}
	drops, err := normalizeCaps(drop)
	if err != nil {
		return nil, err
	}
	all := withBits(available)
	for _, c := range adds {
		if c != allName && !slices.Contains(all, c) {
			return nil, fmt.Errorf("capability not supported by your kernel or not available in the current environment: %q", c)
		}
	}
	if privileged {
		return all, nil
	}
	base := defaultCapabilities()
	switch {
	case slices.Contains(adds, allName):
		base = all
	case slices.Contains(drops, allName):
		base = nil
	}
	var caps []string
	for _, c := range slices.Concat(base, adds) {
		if !slices.Contains(caps, c) && slices.Contains(all, c) && (!slices.Contains(drops, c) || slices.Contains(adds, c)) {
			caps = append(caps, c)
		}
	}
	return caps, nil
}

func withBits(mask uint64) []string {
	var list []string
	for i, c := range allCapabilities() {
		if mask&(1<<i) != 0 {
			list = append(list, c)
		}
	}
	return list
}

// normalizeCaps writes each name as the kernel's headers do.
func normalizeCaps(names []string) ([]string, error) {
	known := allCapabilities()
	var list []string
	for _, name := range names {
		c := strings.ToUpper(strings.TrimSpace(name))
		if c != allName && !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		if c == "CAP_"+allName {
			c = allName
		}
		if c != allName && !slices.Contains(known, c) {
			return nil, fmt.Errorf("unknown capability: %q", name)
		}
		list = append(list, c)
	}
	return list, nil
}

// NormalizedCaps is the form in which inspect shows capabilities; names that are not known stay as they are.
func NormalizedCaps(names []string) []string {
	list, err := normalizeCaps(names)
	if err != nil {
		return names
	}
	if slices.Contains(list, allName) {
		return []string{allName}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// OwnCapabilities are those of this process, one bit each; all when the kernel does not tell.
func OwnCapabilities() uint64 {
	data, _ := os.ReadFile("/proc/self/status")
	mask := ^uint64(0)
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "CapPrm" && name != "CapBnd" {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64); err == nil {
			mask &= n
		}
	}
	return mask
}
