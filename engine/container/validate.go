//go:build linux

package container

import (
	"path"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/sys/signal"

	"github.com/getberth/berth/engine/container/oci"
)

// checks run in order; the first error is the answer.
func firstError(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// validateConfig checks the portable half.
func validateConfig(c *container.Config) error {
	if c.WorkingDir != "" && !path.IsAbs(c.WorkingDir) {
		return invalid("the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
	}
	for _, e := range c.Env {
		if name := envName(e); name == "" {
			return invalid("invalid environment variable: %s", e)
		}
		if strings.ContainsRune(e, 0) {
			return invalid("invalid environment variable: %s contains a NUL byte", envName(e))
		}
	}
	if c.StopSignal != "" {
		if _, err := signal.ParseSignal(c.StopSignal); err != nil {
			return invalid("%v", err)
		}
	}
	if c.StopTimeout != nil && *c.StopTimeout < -1 {
		return invalid("invalid StopTimeout: %d", *c.StopTimeout)
	}
	for p := range c.Volumes {
		if !path.IsAbs(p) {
			return invalid("invalid volume specification: '%s': mount path must be absolute", p)
		}
	}
	if err := validateHostname(c); err != nil {
		return err
	}
	return validateHealth(c.Healthcheck)
}

// validateHostname keeps line breaks and the like out of /etc/hosts and /etc/hostname. 64 is the kernel's limit.
func validateHostname(c *container.Config) error {
	for _, name := range []string{c.Hostname, c.Domainname} {
		if len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' }) {
			return invalid("invalid hostname format: %q", name)
		}
	}
	return nil
}

func validateHealth(h *container.HealthConfig) error {
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.d != 0 && d.d < container.MinimumDuration {
			return invalid("%s in Healthcheck cannot be less than %s", d.name, container.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return invalid("Retries in Healthcheck cannot be negative")
	}
	if len(h.Test) == 0 {
		return nil
	}
	switch h.Test[0] {
	case "NONE", "CMD", "CMD-SHELL":
		return nil
	}
	return invalid("unknown type %q in Healthcheck", h.Test[0])
}

// validateHost checks the other half: everything is supported or refused by name.
func (s *Service) validateHost(hc *container.HostConfig, c *container.Config) error {
	return firstError(
		func() error { return validateForeign(hc) },
		func() error { return validateModes(hc, c) },
		func() error { return validateRestart(hc) },
		func() error { return s.validateSecurity(hc) },
		func() error { return validateDevices(hc) },
		func() error { return validateSysctls(hc) },
		func() error { return validateUlimits(hc) },
		func() error { return validateExtraHosts(hc) },
		func() error { return validateAnnotations(hc) },
		func() error { return s.validateResources(&hc.Resources) },
	)
}

// validateForeign refuses what this engine does not have.
func validateForeign(hc *container.HostConfig) error {
	switch {
	case !hc.Isolation.IsDefault():
		return refused("invalid isolation '%s' for container: only 'default' is supported", hc.Isolation)
	case hc.Runtime != "" && hc.Runtime != "runc" && hc.Runtime != "io.containerd.runc.v2":
		return refused("unknown or invalid runtime name: %s", hc.Runtime)
	case len(hc.StorageOpt) > 0:
		return refused("--storage-opt is not supported by this engine")
	case hc.VolumeDriver != "" && hc.VolumeDriver != "local":
		return notFound("volume driver %q is not supported by this engine: only local is", hc.VolumeDriver)
	case hc.Cgroup != "":
		return refused("invalid cgroup %q: joining another container's cgroup is not supported", hc.Cgroup)
	case hc.CPUCount != 0 || hc.CPUPercent != 0 || hc.IOMaximumIOps != 0 || hc.IOMaximumBandwidth != 0:
		return refused("invalid option: CpuCount, CpuPercent, IOMaximumIOps and IOMaximumBandwidth exist on Windows only")
	}
	return nil
}

func validateModes(hc *container.HostConfig, c *container.Config) error {
	switch {
	case !hc.PidMode.Valid():
		return invalid("invalid PID mode: %s", hc.PidMode)
	case !hc.IpcMode.Valid() || hc.IpcMode.IsContainer() && hc.IpcMode.Container() == "":
		return invalid("invalid IPC mode: %s", hc.IpcMode)
	case !hc.UTSMode.Valid():
		return invalid("invalid UTS mode: %s", hc.UTSMode)
	case !hc.UsernsMode.Valid():
		return invalid("invalid user namespace mode: %s", hc.UsernsMode)
	case !hc.CgroupnsMode.Valid():
		return invalid("invalid cgroup namespace mode: %s", hc.CgroupnsMode)
	case hc.UTSMode.IsHost() && c.Hostname != "":
		return invalid("conflicting options: hostname and the UTS mode")
	case hc.NetworkMode.IsContainer() && hc.NetworkMode.ConnectedContainer() == "":
		return invalid("Invalid network mode: invalid container format container:<name|id>")
	}
	return validateNetworkMode(hc, c)
}

func validateNetworkMode(hc *container.HostConfig, c *container.Config) error {
	mode := hc.NetworkMode
	const undefined = "This would result in undefined behavior"
	switch {
	case mode.IsContainer() && c.Hostname != "":
		return invalid("conflicting options: hostname and the network mode")
	case mode.IsContainer() && len(hc.Links) > 0:
		return invalid("conflicting options: container type network can't be used with links. %s", undefined)
	case mode.IsHost() && len(hc.Links) > 0:
		return invalid("conflicting options: host type networking can't be used with links. %s", undefined)
	case mode.IsContainer() && len(hc.DNS) > 0:
		return invalid("conflicting options: dns and the network mode")
	case mode.IsContainer() && len(hc.ExtraHosts) > 0:
		return invalid("conflicting options: custom host-to-IP mapping and the network mode")
	case mode.IsContainer() && (len(hc.PortBindings) > 0 || hc.PublishAllPorts):
		return invalid("conflicting options: port publishing and the container type network mode")
	case mode.IsContainer() && len(c.ExposedPorts) > 0:
		return invalid("conflicting options: port exposing and the container type network mode")
	}
	return nil
}

func validateRestart(hc *container.HostConfig) error {
	if err := container.ValidateRestartPolicy(hc.RestartPolicy); err != nil {
		return invalid("%v", err)
	}
	if hc.AutoRemove && !hc.RestartPolicy.IsNone() {
		return invalid("can't create 'AutoRemove' container with restart policy")
	}
	return nil
}

func (s *Service) validateSecurity(hc *container.HostConfig) error {
	if _, err := oci.ParseSecurity(hc.SecurityOpt, s.host); err != nil {
		return invalid("%v", err)
	}
	if _, err := oci.Capabilities(hc.CapAdd, hc.CapDrop, hc.Privileged, s.host.Caps); err != nil {
		return invalid("invalid CapAdd or CapDrop: %v", err)
	}
	if hc.OomScoreAdj < -1000 || hc.OomScoreAdj > 1000 {
		return invalid("Invalid value %d, range for oom score adj is [-1000, 1000]", hc.OomScoreAdj)
	}
	if hc.ShmSize < 0 {
		return invalid("SHM size can not be less than 0")
	}
	if hc.Umask != nil && *hc.Umask > 0o777 {
		return invalid("invalid umask %o: it can not be more than 0777", *hc.Umask)
	}
	for _, p := range append(append([]string{}, hc.MaskedPaths...), hc.ReadonlyPaths...) {
		if !path.IsAbs(p) {
			return invalid("masked and read-only paths must be absolute: %s", p)
		}
	}
	return nil
}

func validateDevices(hc *container.HostConfig) error {
	for _, r := range hc.DeviceRequests {
		return refused("could not select device driver %q with capabilities: %v", r.Driver, r.Capabilities)
	}
	for _, d := range hc.Devices {
		if err := oci.CheckDeviceAccess(d.CgroupPermissions); err != nil {
			return invalid("%v", err)
		}
		if !path.IsAbs(d.PathOnHost) || d.PathInContainer != "" && !path.IsAbs(d.PathInContainer) {
			return invalid("invalid device mapping %s:%s: paths must be absolute", d.PathOnHost, d.PathInContainer)
		}
	}
	for _, r := range hc.DeviceCgroupRules {
		if _, err := oci.ParseDeviceRule(r); err != nil {
			return invalid("%v", err)
		}
	}
	return nil
}

func validateSysctls(hc *container.HostConfig) error {
	for name := range hc.Sysctls {
		if err := oci.CheckSysctl(name, hc); err != nil {
			return invalid("%v", err)
		}
	}
	return nil
}

func validateUlimits(hc *container.HostConfig) error {
	for _, u := range hc.Ulimits {
		if err := oci.CheckUlimit(u); err != nil {
			return invalid("%v", err)
		}
	}
	return nil
}

func validateExtraHosts(hc *container.HostConfig) error {
	for _, h := range hc.ExtraHosts {
		if _, err := parseExtraHost(h); err != nil {
			return invalid("%v", err)
		}
	}
	return nil
}

func validateAnnotations(hc *container.HostConfig) error {
	for k := range hc.Annotations {
		if k == "" {
			return invalid("invalid Annotations: the empty string is not permitted as an annotation key")
		}
	}
	return nil
}
