//go:build linux

// Package oci turns a container's settings into the specification that the supervisor runs. Its functions are pure, apart from
// those that say otherwise (devices and the seccomp profile ask the kernel).
package oci

import (
	"fmt"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Namespaces are paths to join; an empty one means a namespace of the container's own, unless HostConfig says host.
type Namespaces struct {
	Network, PID, IPC string
}

// Input is all that a specification is made of.
type Input struct {
	ID         string
	RootFS     string // mounted already
	Args, Env  []string
	Dir        string
	User       specs.User
	TTY        bool
	Hostname   string
	Domainname string
	HostConfig *container.HostConfig
	Namespaces Namespaces
	Mounts     []specs.Mount // those asked for, and the files of the network
	ShmPath    string        // folder of the host to be /dev/shm; empty means a tmpfs of the container's own
	CgroupPath string
	CgroupV2   bool
	Rlimits    []*container.Ulimit // the engine's defaults, overridden by those of HostConfig
	Host       Host
}

// Host is what the kernel under the container can do.
type Host struct {
	Caps     uint64 // the engine's capabilities, one bit each
	AppArmor bool   // enabled
	SELinux  bool   // enabled
	Seccomp  bool   // filters are supported
}

// Build makes the specification.
func Build(in Input) (*specs.Spec, error) {
	sec, err := ParseSecurity(in.HostConfig.SecurityOpt, in.Host)
	if err != nil {
		return nil, err
	}
	caps, err := Capabilities(in.HostConfig.CapAdd, in.HostConfig.CapDrop, in.HostConfig.Privileged, in.Host.Caps)
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{
		Version:     specs.Version,
		Root:        &specs.Root{Path: in.RootFS, Readonly: in.HostConfig.ReadonlyRootfs},
		Hostname:    in.Hostname,
		Domainname:  in.Domainname,
		Annotations: in.HostConfig.Annotations,
		Process:     process(in, caps, sec),
		Mounts:      mounts(in, sec),
		Linux: &specs.Linux{
			Namespaces:    namespaces(in),
			CgroupsPath:   in.CgroupPath,
			Sysctl:        sysctls(in),
			MaskedPaths:   in.HostConfig.MaskedPaths,
			ReadonlyPaths: in.HostConfig.ReadonlyPaths,
		},
	}
	if in.HostConfig.UTSMode.IsHost() { // runc refuses to set a name that it would set for the host
		spec.Hostname, spec.Domainname = "", ""
	}
	if spec.Linux.Resources, err = Resources(in.HostConfig.Resources, in.CgroupV2); err != nil {
		return nil, err
	}
	if err := addDevices(spec, in.HostConfig); err != nil {
		return nil, err
	}
	spec.Linux.RootfsPropagation = rootPropagation(in.Mounts)
	if spec.Linux.Seccomp, err = seccompProfile(spec, sec, in.HostConfig.Privileged, in.Host); err != nil {
		return nil, err
	}
	return spec, nil
}

func process(in Input, caps []string, sec Security) *specs.Process {
	p := &specs.Process{
		Terminal:        in.TTY,
		User:            in.User,
		Args:            in.Args,
		Env:             in.Env,
		Cwd:             in.Dir,
		Capabilities:    Granted(caps),
		Rlimits:         Rlimits(in.Rlimits, in.HostConfig.Ulimits),
		NoNewPrivileges: sec.NoNewPrivileges,
		OOMScoreAdj:     &in.HostConfig.OomScoreAdj,
		ApparmorProfile: sec.AppArmor,
	}
	p.User.Umask = in.HostConfig.Umask
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	if size := in.HostConfig.ConsoleSize; in.TTY && size[0] > 0 && size[1] > 0 {
		p.ConsoleSize = &specs.Box{Height: size[0], Width: size[1]}
	}
	return p
}

// Granted are the sets of a process that has caps; nothing is inheritable, as CVE-2022-24769 taught.
func Granted(caps []string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

func namespaces(in Input) []specs.LinuxNamespace {
	hc := in.HostConfig
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	add := func(host bool, t specs.LinuxNamespaceType, path string) {
		if !host {
			list = append(list, specs.LinuxNamespace{Type: t, Path: path})
		}
	}
	add(hc.NetworkMode.IsHost(), specs.NetworkNamespace, in.Namespaces.Network)
	add(hc.UTSMode.IsHost(), specs.UTSNamespace, "")
	add(hc.IpcMode.IsHost(), specs.IPCNamespace, in.Namespaces.IPC)
	add(hc.PidMode.IsHost(), specs.PIDNamespace, in.Namespaces.PID)
	add(!hc.CgroupnsMode.IsPrivate(), specs.CgroupNamespace, "")
	return list
}

// sysctls lets unprivileged processes ping and open low ports where the container has a network of its own, as Docker does.
func sysctls(in Input) map[string]string {
	all := map[string]string{}
	if !in.HostConfig.NetworkMode.IsHost() && in.Namespaces.Network != "" && in.HostConfig.UsernsMode.IsPrivate() {
		all["net.ipv4.ping_group_range"] = "0 2147483647"
		all["net.ipv4.ip_unprivileged_port_start"] = "0"
	}
	for k, v := range in.HostConfig.Sysctls {
		all[k] = v
	}
	return all
}

// CheckSysctl refuses those that are not of a namespace of the container's own, or are of the host's.
func CheckSysctl(name string, hc *container.HostConfig) error {
	switch {
	case ipcSysctl(name):
		if hc.IpcMode.IsHost() {
			return fmt.Errorf("sysctl %q not allowed in host ipc namespace", name)
		}
	case len(name) > 4 && name[:4] == "net.":
		if hc.NetworkMode.IsHost() {
			return fmt.Errorf("sysctl %q not allowed in host network namespace", name)
		}
	case name == "kernel.domainname" || name == "kernel.hostname":
		return fmt.Errorf("sysctl %q is set with the container's hostname and domainname", name)
	default:
		return fmt.Errorf("sysctl %q is not in a separate kernel namespace", name)
	}
	return nil
}

func ipcSysctl(name string) bool {
	switch name {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
		"kernel.shmmni", "kernel.shm_rmid_forced":
		return true
	}
	return len(name) > 10 && name[:10] == "fs.mqueue."
}

// ExecProcess is one more process of a container: its rights and limits, without what it runs. It is not bound to the
// capabilities of the container when it is privileged.
func ExecProcess(hc *container.HostConfig, host Host, defaults []*container.Ulimit, privileged bool) (*specs.Process, error) {
	sec, err := ParseSecurity(hc.SecurityOpt, host)
	if err != nil {
		return nil, err
	}
	caps, err := Capabilities(hc.CapAdd, hc.CapDrop, hc.Privileged || privileged, host.Caps)
	if err != nil {
		return nil, err
	}
	in := Input{HostConfig: hc, Rlimits: defaults}
	return process(in, caps, sec), nil
}
