//go:build linux

package oci

import (
	"slices"
	"strings"
	"testing"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/getberth/berth/engine/container/mountspec"
)

func build(t *testing.T, change func(*Input)) *specs.Spec {
	t.Helper()
	in := Input{
		ID: "id", RootFS: "/root", Args: []string{"sh"}, HostConfig: &container.HostConfig{IpcMode: "private", CgroupnsMode: "private"},
		Host: Host{Caps: 1<<41 - 1, Seccomp: true}, Namespaces: Namespaces{Network: "/netns"},
	}
	if change != nil {
		change(&in)
	}
	spec, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestDefaults(t *testing.T) {
	spec := build(t, nil)
	if n := len(spec.Process.Capabilities.Bounding); n != 14 {
		t.Errorf("%d capabilities", n)
	}
	if spec.Process.Capabilities.Inheritable != nil || spec.Process.Capabilities.Ambient != nil {
		t.Error("capabilities are inheritable")
	}
	if spec.Linux.Seccomp == nil || spec.Linux.Seccomp.DefaultAction != specs.ActErrno {
		t.Error("there is no seccomp profile")
	}
	if spec.Process.Cwd != "/" {
		t.Errorf("cwd is %q", spec.Process.Cwd)
	}
	var kinds []string
	for _, ns := range spec.Linux.Namespaces {
		kinds = append(kinds, string(ns.Type)+"="+ns.Path)
	}
	if got := strings.Join(kinds, " "); got != "mount= network=/netns uts= ipc= pid= cgroup=" {
		t.Errorf("namespaces are %s", got)
	}
	for _, dest := range []string{"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"} {
		if find(spec, dest) == nil {
			t.Errorf("%s is not mounted", dest)
		}
	}
	if !slices.Contains(find(spec, "/sys").Options, "ro") {
		t.Error("/sys can be written")
	}
}

func find(spec *specs.Spec, dest string) *specs.Mount {
	for i := range spec.Mounts {
		if spec.Mounts[i].Destination == dest {
			return &spec.Mounts[i]
		}
	}
	return nil
}

func TestPrivileged(t *testing.T) {
	spec := build(t, func(in *Input) { in.HostConfig.Privileged = true })
	if spec.Linux.Seccomp != nil || len(spec.Process.Capabilities.Bounding) != 41 || slices.Contains(find(spec, "/sys").Options, "ro") {
		t.Errorf("it is confined: %v", spec.Process.Capabilities.Bounding)
	}
	if d := spec.Linux.Resources.Devices; len(d) != 1 || !d[0].Allow {
		t.Errorf("device rules are %v", d)
	}
}

func TestHostNamespaces(t *testing.T) {
	spec := build(t, func(in *Input) {
		*in.HostConfig = container.HostConfig{NetworkMode: "host", PidMode: "host", IpcMode: "host", UTSMode: "host", CgroupnsMode: "host"}
		in.Hostname = "name"
	})
	if len(spec.Linux.Namespaces) != 1 || spec.Hostname != "" {
		t.Errorf("namespaces %v, hostname %q", spec.Linux.Namespaces, spec.Hostname)
	}
	if m := find(spec, "/dev/shm"); m.Source != "/dev/shm" || m.Type != "bind" {
		t.Errorf("/dev/shm is %v", m)
	}
	if len(spec.Linux.Sysctl) != 0 {
		t.Errorf("the host's sysctls would be set: %v", spec.Linux.Sysctl)
	}
}

func TestCapabilities(t *testing.T) {
	def := defaultCapabilities()
	for name, c := range map[string]struct {
		add, drop  []string
		has, hasNo []string
		n          int
	}{
		"none":              {nil, nil, def, nil, 14},
		"add":               {[]string{"net_admin", "CAP_SYS_TIME"}, nil, []string{"CAP_NET_ADMIN", "CAP_SYS_TIME"}, nil, 16},
		"drop":              {nil, []string{"CHOWN"}, nil, []string{"CAP_CHOWN"}, 13},
		"drop all, add one": {[]string{"chown"}, []string{"ALL"}, []string{"CAP_CHOWN"}, nil, 1},
		"add all, drop one": {[]string{"all"}, []string{"sys_admin"}, []string{"CAP_BPF"}, []string{"CAP_SYS_ADMIN"}, 40},
	} {
		got, err := Capabilities(c.add, c.drop, false, 1<<41-1)
		if err != nil || len(got) != c.n {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		for _, h := range c.has {
			if !slices.Contains(got, h) {
				t.Errorf("%s: %s is missing", name, h)
			}
		}
		for _, h := range c.hasNo {
			if slices.Contains(got, h) {
				t.Errorf("%s: %s is there", name, h)
			}
		}
	}
	few := uint64(1<<0 | 1<<5) // CHOWN, KILL
	if got, err := Capabilities(nil, nil, true, few); err != nil || len(got) != 2 {
		t.Errorf("privileged with few: %v, %v", got, err)
	}
	if got, err := Capabilities(nil, []string{"kill"}, false, few); err != nil || len(got) != 1 {
		t.Errorf("the default with few: %v, %v", got, err)
	}
	if _, err := Capabilities([]string{"bpf"}, nil, false, few); err == nil {
		t.Error("what the engine does not have is given")
	}
	if _, err := Capabilities([]string{"FLY"}, nil, false, 1<<41-1); err == nil || err.Error() != `unknown capability: "FLY"` {
		t.Errorf("an unknown one: %v", err)
	}
}

func TestSecurity(t *testing.T) {
	for option, ok := range map[string]bool{
		"no-new-privileges": true, "no-new-privileges:true": true, "no-new-privileges=false": true, "no-new-privileges=x": false,
		"seccomp=unconfined": true, "seccomp:unconfined": true, "seccomp=builtin": true, `seccomp={"defaultAction":"SCMP_ACT_ALLOW"}`: true,
		"seccomp=/a/path": false, "apparmor=unconfined": true, "apparmor=other": true, "label=disable": true,
		"label:type:svirt": true, "systempaths=unconfined": true, "systempaths=x": false, "bogus": false, "bogus=1": false, "writable-cgroups": true, "writable-cgroups=x": false,
	} {
		if _, err := ParseSecurity([]string{option}, Host{Seccomp: true}); (err == nil) != ok {
			t.Errorf("%s: %v", option, err)
		}
	}
	spec := build(t, func(in *Input) { in.HostConfig.SecurityOpt = []string{"seccomp=unconfined", "no-new-privileges"} })
	if spec.Linux.Seccomp != nil || !spec.Process.NoNewPrivileges {
		t.Error("the options have no effect")
	}
}

func TestResources(t *testing.T) {
	limit := int64(0)
	spec := build(t, func(in *Input) {
		in.HostConfig.Resources = container.Resources{Memory: 64 << 20, MemorySwap: -1, NanoCPUs: 1.5e9, CPUShares: 512, PidsLimit: &limit, CpusetCpus: "0-1"}
	})
	r := spec.Linux.Resources
	if *r.Memory.Limit != 64<<20 || *r.Memory.Swap != -1 || *r.CPU.Quota != 150_000 || *r.CPU.Period != 100_000 || *r.CPU.Shares != 512 ||
		*r.Pids.Limit != -1 || r.CPU.Cpus != "0-1" {
		t.Errorf("resources are %+v %+v %+v", r.Memory, r.CPU, r.Pids)
	}
	if _, err := Resources(container.Resources{BlkioWeightDevice: nil}, false); err != nil {
		t.Error(err)
	}
}

func TestRlimits(t *testing.T) {
	got := Rlimits([]*container.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}, {Name: "core", Soft: 0, Hard: 0}},
		[]*container.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}})
	if len(got) != 2 || got[1].Type != "RLIMIT_NOFILE" || got[1].Soft != 10 || got[1].Hard != 20 {
		t.Errorf("limits are %v", got)
	}
	for _, u := range []*units.Ulimit{nil, {Name: "bogus"}, {Name: "nofile", Soft: 3, Hard: 2}} {
		if CheckUlimit(u) == nil {
			t.Errorf("%v is taken", u)
		}
	}
}

func TestPointMounts(t *testing.T) {
	p := func(raw string) mountspec.Point {
		point, err := mountspec.ParseBind(raw, "")
		if err != nil {
			t.Fatal(err)
		}
		return point
	}
	for raw, want := range map[string]string{
		"/a:/b":        "bind /a /b rbind,rprivate",
		"/a:/b:ro":     "bind /a /b rbind,rprivate,ro,rro",
		"/a:/b:rslave": "bind /a /b rbind,rslave",
		"vol:/b:ro":    "bind /vol /b rbind,rprivate,ro",
	} {
		m := PointMount(p(raw), "/vol")
		if got := strings.Join([]string{m.Type, m.Source, m.Destination, strings.Join(m.Options, ",")}, " "); got != want {
			t.Errorf("%s is %s", raw, got)
		}
	}
	spec := build(t, func(in *Input) {
		in.Mounts = []specs.Mount{PointMount(p("/x:/a/b/c"), ""), PointMount(p("/x:/a:shared"), ""), PointMount(mountspec.Point{Type: mount.TypeTmpfs, Destination: "/dev/shm"}, "")}
	})
	if spec.Linux.RootfsPropagation != "rshared" {
		t.Errorf("the root's propagation is %q", spec.Linux.RootfsPropagation)
	}
	at := func(dest string) int {
		return slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == dest })
	}
	if at("/a") > at("/a/b/c") {
		t.Error("a child is mounted before its parent")
	}
	if m := spec.Mounts[at("/dev/shm")]; m.Source != "tmpfs" {
		t.Error("the user's /dev/shm does not replace the default")
	}
}

func TestDeviceRules(t *testing.T) {
	for raw, ok := range map[string]bool{"c 10:200 rwm": true, "b *:* r": true, "a 1:2 m": true, "c 10 rwm": false, "x 1:2 r": false,
		"c 1:2": false, "c 1:2 rr": false, "c -1:2 r": false, "": false, "abc 1:2 r": false} {
		if _, err := ParseDeviceRule(raw); (err == nil) != ok {
			t.Errorf("%q: %v", raw, err)
		}
	}
	spec := build(t, func(in *Input) {
		in.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/nix", CgroupPermissions: "r"}}
	})
	if d := spec.Linux.Devices; len(d) != 1 || d[0].Path != "/dev/nix" || d[0].Major != 1 || d[0].Minor != 3 {
		t.Errorf("devices are %v", d)
	}
	in := Input{HostConfig: &container.HostConfig{Resources: container.Resources{Devices: []container.DeviceMapping{{PathOnHost: "/nope"}}}}}
	if _, err := Build(in); err == nil || !strings.Contains(err.Error(), `error gathering device information while adding custom device "/nope"`) {
		t.Errorf("a missing device: %v", err)
	}
}

func TestSysctls(t *testing.T) {
	host := &container.HostConfig{NetworkMode: "host", IpcMode: "host"}
	for name, want := range map[string][2]bool{"net.core.somaxconn": {true, false}, "kernel.shmmax": {true, false},
		"fs.mqueue.msg_max": {true, false}, "kernel.panic": {false, false}, "vm.swappiness": {false, false}} {
		if own, shared := CheckSysctl(name, &container.HostConfig{}) == nil, CheckSysctl(name, host) == nil; own != want[0] || shared != want[1] {
			t.Errorf("%s: %v %v", name, own, shared)
		}
	}
}

func FuzzParseDeviceRule(f *testing.F) {
	f.Add("c 10:200 rwm")
	f.Fuzz(func(t *testing.T, raw string) { ParseDeviceRule(raw) })
}

func FuzzParseSecurity(f *testing.F) {
	f.Add("seccomp={}")
	f.Fuzz(func(t *testing.T, option string) { ParseSecurity([]string{option}, Host{Seccomp: true}) })
}

func BenchmarkBuild(b *testing.B) {
	in := Input{HostConfig: &container.HostConfig{}, Args: []string{"sh"}, Host: Host{Caps: 1<<41 - 1, Seccomp: true}}
	for b.Loop() {
		if _, err := Build(in); err != nil {
			b.Fatal(err)
		}
	}
}
