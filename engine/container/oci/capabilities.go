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

// Capabilities applies add and drop to the default set. lastCap is the highest that the kernel knows.
func Capabilities(add, drop []string, privileged bool, lastCap int) ([]string, error) {
	known := allCapabilities()
	known = known[:min(lastCap+1, len(known))]
	adds, err := normalizeCaps(add, known)
	if err != nil {
		return nil, err
	}
	drops, err := normalizeCaps(drop, known)
	if err != nil {
		return nil, err
	}
	if privileged {
		return known, nil
	}
	base := defaultCapabilities()
	switch {
	case slices.Contains(adds, allName):
		base = known
	case slices.Contains(drops, allName):
		base = nil
	}
	var caps []string
	for _, c := range base {
		if !slices.Contains(drops, c) {
			caps = append(caps, c)
		}
	}
	for _, c := range adds {
		if c != allName && !slices.Contains(caps, c) {
			caps = append(caps, c)
		}
	}
	return caps, nil
}

// normalizeCaps writes each name as the kernel's headers do.
func normalizeCaps(names, known []string) ([]string, error) {
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
	list, err := normalizeCaps(names, allCapabilities())
	if err != nil {
		return names
	}
	if slices.Contains(list, allName) {
		return []string{allName}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// LastCap asks the kernel for its highest capability.
func LastCap() int {
	data, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			return n
		}
	}
	return len(allCapabilities()) - 1
}
