//go:build linux

package oci

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Security is what --security-opt says.
type Security struct {
	NoNewPrivileges   bool
	AppArmor          string // profile name; empty means none
	Seccomp           string // "", "unconfined", "builtin" or a profile in JSON
	UnmaskedPaths     bool
	WritableCgroups   bool
	LabelsWereIgnored bool // for a warning: the kernel has no SELinux
}

// ParseSecurity reads the options. One that this host cannot honour is refused, unless leaving it out is what Docker does.
func ParseSecurity(options []string, host Host) (Security, error) {
	var s Security
	for _, option := range options {
		if err := s.set(option, host); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *Security) set(option string, host Host) error {
	switch option {
	case "no-new-privileges":
		s.NoNewPrivileges = true
		return nil
	case "writable-cgroups":
		s.WritableCgroups = true
		return nil
	}
	key, value, found := cutOption(option)
	if !found {
		return fmt.Errorf("invalid --security-opt 1: %q", option)
	}
	switch key {
	case "no-new-privileges":
		return setBool(&s.NoNewPrivileges, option, value)
	case "writable-cgroups":
		return setBool(&s.WritableCgroups, option, value)
	case "seccomp":
		s.Seccomp = value
		return checkSeccomp(value, host)
	case "apparmor":
		if host.AppArmor && value != "unconfined" {
			s.AppArmor = value
		}
		return nil
	case "label":
		if host.SELinux && value != "disable" {
			return fmt.Errorf("invalid --security-opt: %q: this engine sets no SELinux labels", option)
		}
		return nil
	case "systempaths":
		if value != "unconfined" {
			return fmt.Errorf("invalid --security-opt: %q: systempaths can only be unconfined", option)
		}
		s.UnmaskedPaths = true
		return nil
	}
	return fmt.Errorf("invalid --security-opt 2: %q", option)
}

// cutOption splits at "=", or at the ":" of old clients.
func cutOption(option string) (key, value string, found bool) {
	if i := strings.IndexAny(option, "=:"); i > 0 {
		return option[:i], option[i+1:], true
	}
	return "", "", false
}

func setBool(to *bool, option, value string) error {
	v, err := strconv.ParseBool(value)
	if err != nil {
		return fmt.Errorf("invalid --security-opt 2: %q", option)
	}
	*to = v
	return nil
}

func checkSeccomp(value string, host Host) error {
	switch value {
	case "unconfined", "builtin", "":
		return nil
	}
	if !host.Seccomp {
		return fmt.Errorf("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
	}
	_, err := seccomp.LoadProfile(value, &specs.Spec{Process: &specs.Process{Capabilities: Granted(nil)}})
	return err
}

// seccompProfile makes the filter; it depends on the capabilities in the specification and on the kernel's version.
func seccompProfile(spec *specs.Spec, sec Security, privileged bool, host Host) (*specs.LinuxSeccomp, error) {
	if sec.Seccomp == "unconfined" || !host.Seccomp {
		return nil, nil
	}
	if sec.Seccomp != "" && sec.Seccomp != "builtin" {
		return seccomp.LoadProfile(sec.Seccomp, spec)
	}
	if privileged {
		return nil, nil
	}
	return seccomp.GetDefaultProfile(spec)
}

// DetectHost asks the kernel what it has.
func DetectHost() Host {
	return Host{
		Caps:     OwnCapabilities(),
		AppArmor: fileStarts("/sys/module/apparmor/parameters/enabled", "Y") && exists("/sys/kernel/security/apparmor"),
		SELinux:  exists("/sys/fs/selinux/enforce"),
		Seccomp:  exists("/proc/sys/kernel/seccomp/actions_avail"),
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func fileStarts(path, prefix string) bool {
	data, err := os.ReadFile(path)
	return err == nil && strings.HasPrefix(string(data), prefix)
}
