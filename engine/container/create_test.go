//go:build linux

package container

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/getberth/berth/engine/filter"
)

func TestMergeCommand(t *testing.T) {
	img := dockerspec.DockerOCIImageConfig{}
	img.Entrypoint, img.Cmd = []string{"entry"}, []string{"cmd"}
	for name, c := range map[string]struct{ entrypoint, cmd, want []string }{
		"nothing":                   {nil, nil, []string{"entry", "cmd"}},
		"a command":                 {nil, []string{"x"}, []string{"entry", "x"}},
		"an entrypoint":             {[]string{"e"}, nil, []string{"e"}},
		"both":                      {[]string{"e"}, []string{"x"}, []string{"e", "x"}},
		"empty entrypoint":          {[]string{}, nil, []string{"cmd"}},
		"empty entrypoint, command": {[]string{}, []string{"x"}, []string{"x"}},
		"reset entrypoint":          {[]string{""}, []string{"x"}, []string{"x"}},
	} {
		e, cmd := mergeCommand(container.Config{Entrypoint: c.entrypoint, Cmd: c.cmd}, img)
		if got := slices.Concat(e, cmd); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestMergeImage(t *testing.T) {
	img := dockerspec.DockerOCIImageConfig{}
	img.Env = []string{"PATH=/bin", "A=image"}
	img.ExposedPorts = map[string]struct{}{"80/tcp": {}, "90-91/udp": {}}
	img.Labels = map[string]string{"a": "image", "b": "image"}
	img.User, img.WorkingDir, img.StopSignal = "ann", "/srv", "SIGQUIT"
	img.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "true"}, Interval: time.Second, Retries: 2}
	own := container.Config{Env: []string{"A=own", "B=own"}, Labels: map[string]string{"a": "own"}, User: "0",
		ExposedPorts: network.PortSet{network.MustParsePort("81"): {}}, Healthcheck: &container.HealthConfig{Retries: 9}}
	got, err := mergeImage(own, img)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Env, []string{"A=own", "B=own", "PATH=/bin"}) || got.Labels["a"] != "own" || got.Labels["b"] != "image" ||
		got.User != "0" || got.WorkingDir != "/srv" || got.StopSignal != "SIGQUIT" || len(got.ExposedPorts) != 4 ||
		got.Healthcheck.Retries != 9 || got.Healthcheck.Interval != time.Second || got.Healthcheck.Test[1] != "true" {
		t.Errorf("merged is %+v, health %+v", got, got.Healthcheck)
	}
}

func TestEnvironment(t *testing.T) {
	got := environment("host", true, []string{"A=1", "PATH=/x", "A=2", "TERM", "B="})
	if want := []string{"PATH=/x", "HOSTNAME=host", "A=2", "B="}; !slices.Equal(got, want) {
		t.Errorf("environment is %v", got)
	}
	got = environment("host", true, nil)
	if len(got) != 3 || got[2] != "TERM=xterm" {
		t.Errorf("environment is %v", got)
	}
}

func TestCreateRefuses(t *testing.T) {
	r := newRig(t)
	minus := int64(-2)
	tcp80 := network.MustParsePort("80")
	for want, change := range map[string]func(*container.Config, *container.HostConfig){
		"No such image: nope":                                       func(c *container.Config, _ *container.HostConfig) { c.Image = "nope" },
		"the working directory 'x' is invalid":                      func(c *container.Config, _ *container.HostConfig) { c.WorkingDir = "x" },
		"could not get container for nope: No such container: nope": func(_ *container.Config, h *container.HostConfig) { h.Links = []string{"nope"} },
		"No such container: away":                                   func(_ *container.Config, h *container.HostConfig) { h.VolumesFrom = []string{"away"} },
		"No such container: lost":                                   func(_ *container.Config, h *container.HostConfig) { h.PidMode = "container:lost" },
		"subpath must be a relative path within the volume": func(_ *container.Config, h *container.HostConfig) {
			h.Mounts = []mount.Mount{{Type: mount.TypeVolume, Source: "vol", Target: "/v", VolumeOptions: &mount.VolumeOptions{Subpath: "../x"}}}
		},
		"invalid environment variable: =x": func(c *container.Config, _ *container.HostConfig) { c.Env = []string{"=x"} },
		"invalid signal: BOGUS":            func(c *container.Config, _ *container.HostConfig) { c.StopSignal = "BOGUS" },
		"invalid hostname format":          func(c *container.Config, _ *container.HostConfig) { c.Hostname = "a\nb" },
		"Interval in Healthcheck cannot be less than 1ms": func(c *container.Config, _ *container.HostConfig) {
			c.Healthcheck = &container.HealthConfig{Interval: 3}
		},
		"unknown type \"X\" in Healthcheck": func(c *container.Config, _ *container.HostConfig) {
			c.Healthcheck = &container.HealthConfig{Test: []string{"X"}}
		},
		"could not select device driver \"\" with capabilities: [[gpu]]": func(_ *container.Config, h *container.HostConfig) {
			h.DeviceRequests = []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}
		},
		"unknown or invalid runtime name: runsc": func(_ *container.Config, h *container.HostConfig) { h.Runtime = "runsc" },
		"--storage-opt":                          func(_ *container.Config, h *container.HostConfig) { h.StorageOpt = map[string]string{"size": "1G"} },
		"invalid isolation 'hyperv'":             func(_ *container.Config, h *container.HostConfig) { h.Isolation = "hyperv" },
		"invalid user namespace mode: private":   func(_ *container.Config, h *container.HostConfig) { h.UsernsMode = "private" },
		"invalid PID mode: bogus":                func(_ *container.Config, h *container.HostConfig) { h.PidMode = "bogus" },
		"No such container: gone":                func(_ *container.Config, h *container.HostConfig) { h.NetworkMode = "container:gone" },
		"conflicting options: port publishing and the container type network": func(_ *container.Config, h *container.HostConfig) {
			h.NetworkMode = "container:x"
			h.PortBindings = network.PortMap{tcp80: {{}}}
		},
		"conflicting options: host type networking can't be used with links": func(_ *container.Config, h *container.HostConfig) { h.NetworkMode = "host"; h.Links = []string{"ab"} },
		"invalid restart policy: unknown policy 'often'":                     func(_ *container.Config, h *container.HostConfig) { h.RestartPolicy.Name = "often" },
		"maximum retry count can only be used with 'on-failure'": func(_ *container.Config, h *container.HostConfig) {
			h.RestartPolicy = container.RestartPolicy{Name: "always", MaximumRetryCount: 1}
		},
		"can't create 'AutoRemove' container with restart policy": func(_ *container.Config, h *container.HostConfig) {
			h.AutoRemove = true
			h.RestartPolicy.Name = "always"
		},
		"invalid --security-opt":                                        func(_ *container.Config, h *container.HostConfig) { h.SecurityOpt = []string{"bogus"} },
		"unknown capability: \"FLY\"":                                   func(_ *container.Config, h *container.HostConfig) { h.CapAdd = []string{"FLY"} },
		"range for oom score adj is [-1000, 1000]":                      func(_ *container.Config, h *container.HostConfig) { h.OomScoreAdj = 2000 },
		"sysctl \"kernel.panic\" is not in a separate kernel namespace": func(_ *container.Config, h *container.HostConfig) { h.Sysctls = map[string]string{"kernel.panic": "1"} },
		"invalid ulimit type: bogus":                                    func(_ *container.Config, h *container.HostConfig) { h.Ulimits = []*container.Ulimit{{Name: "bogus"}} },
		"invalid IP address in add-host: \"a:b\"":                       func(_ *container.Config, h *container.HostConfig) { h.ExtraHosts = []string{"a:b"} },
		"Minimum memory limit allowed is 6MB":                           func(_ *container.Config, h *container.HostConfig) { h.Memory = 4096 },
		"You should always set the Memory limit when using Memoryswap":  func(_ *container.Config, h *container.HostConfig) { h.MemorySwap = 1 << 30 },
		"Minimum memoryswap limit should be larger than memory limit":   func(_ *container.Config, h *container.HostConfig) { h.Memory = 1 << 30; h.MemorySwap = 1 << 20 },
		"valid memory swappiness range is 0-100":                        func(_ *container.Config, h *container.HostConfig) { h.MemorySwappiness = &minus },
		"range of CPUs is from 0.01":                                    func(_ *container.Config, h *container.HostConfig) { h.NanoCPUs = 1e15 },
		"Conflicting options: Nano CPUs and CPU Period":                 func(_ *container.Config, h *container.HostConfig) { h.NanoCPUs = 1e9; h.CPUPeriod = 1e5 },
		"Invalid value 1-x for cpuset cpus":                             func(_ *container.Config, h *container.HostConfig) { h.CpusetCpus = "1-x" },
		"Range of blkio weight is from 10 to 1000":                      func(_ *container.Config, h *container.HostConfig) { h.BlkioWeight = 5 },
		"invalid blkio throttle device": func(_ *container.Config, h *container.HostConfig) {
			h.BlkioDeviceReadBps = []*blkiodev.ThrottleDevice{nil}
		},
		"Duplicate mount point: /a": func(_ *container.Config, h *container.HostConfig) { h.Binds = []string{"/x:/a", "/y:/a"} },
		"bind source path does not exist: /no/such/path": func(_ *container.Config, h *container.HostConfig) {
			h.Mounts = []mount.Mount{{Type: "bind", Source: "/no/such/path", Target: "/a"}}
		},
		"logger: no log driver named 'gelf' is registered": func(_ *container.Config, h *container.HostConfig) { h.LogConfig.Type = "gelf" },
		"unknown log opt 'bogus' for json-file log driver": func(_ *container.Config, h *container.HostConfig) {
			h.LogConfig = container.LogConfig{Type: "json-file", Config: map[string]string{"bogus": "1"}}
		},
		"CpuCount, CpuPercent":     func(_ *container.Config, h *container.HostConfig) { h.CPUCount = 2 },
		"volume driver \"rexray\"": func(_ *container.Config, h *container.HostConfig) { h.VolumeDriver = "rexray" },
	} {
		c, h := &container.Config{Image: "busybox"}, &container.HostConfig{}
		change(c, h)
		_, err := r.Create(t.Context(), "", container.CreateRequest{Config: c, HostConfig: h}, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !errdefs.IsInvalidArgument(err) && !errdefs.IsNotFound(err) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if _, err := r.Create(t.Context(), "", container.CreateRequest{}, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("without a config: %v", err)
	}
	if len(r.reg.all()) != 0 || r.images.count() != 0 {
		t.Error("a refused create left something")
	}
}

func TestDefaultsAreShown(t *testing.T) {
	r := newRig(t)
	id := r.create("xx", func(_ *container.Config, h *container.HostConfig) {
		h.Memory = 64 << 20
		h.CapAdd = []string{"net_admin"}
	})
	got, err := r.Inspect(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	h := got.HostConfig
	if h.ShmSize != 64<<20 || h.IpcMode != "private" || h.RestartPolicy.Name != "no" || h.LogConfig.Type != "json-file" ||
		len(h.MaskedPaths) == 0 || len(h.ReadonlyPaths) == 0 || h.CapAdd[0] != "CAP_NET_ADMIN" || h.Runtime != "runc" ||
		h.MemorySwap == 0 || h.PortBindings == nil || h.DNS == nil || h.Devices == nil {
		t.Errorf("host config is %+v", h)
	}
	if got.Path != "sh" || got.Args == nil || got.Mounts == nil || *got.SizeRw != 5 || got.State.StartedAt != "0001-01-01T00:00:00Z" {
		t.Errorf("inspect is %+v", got)
	}
}

func TestVolumes(t *testing.T) {
	r := newRig(t)
	host := filepath.Join(t.TempDir(), "made", "here")
	id := r.create("xx", func(c *container.Config, h *container.HostConfig) {
		c.Volumes = map[string]struct{}{"/etc": {}, "/named": {}}
		h.Binds = []string{"data:/named", host + ":/host:ro"}
		h.Tmpfs = map[string]string{"/run": "size=64k"}
	})
	got, _ := r.Inspect(t.Context(), id, false)
	if len(got.Mounts) != 3 { // what --tmpfs asked for is not among them, as with Docker
		t.Fatalf("mounts are %+v", got.Mounts)
	}
	anonymous := got.Mounts[0]
	if anonymous.Destination != "/etc" || anonymous.Type != "volume" || !validID(anonymous.Name) {
		t.Errorf("the anonymous volume is %+v", anonymous)
	}
	if text, _ := os.ReadFile(filepath.Join(r.volumes.dir, anonymous.Name, "passwd")); !strings.Contains(string(text), "ann") {
		t.Error("the volume was not filled from the image")
	}
	if fileExists(host) {
		t.Error("the host's folder was made before the start")
	}
	if err := r.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if !fileExists(host) {
		t.Error("the host's folder was not made")
	}
	from := r.create("yy", func(_ *container.Config, h *container.HostConfig) { h.VolumesFrom = []string{"xx:ro"} })
	got, _ = r.Inspect(t.Context(), from, false)
	if len(got.Mounts) != 3 || got.Mounts[0].RW {
		t.Errorf("volumes from the other are %+v", got.Mounts)
	}
	if err := r.Remove(t.Context(), from, RemoveOptions{Volumes: true}); err != nil {
		t.Fatal(err)
	}
	if !fileExists(filepath.Join(r.volumes.dir, anonymous.Name)) {
		t.Error("the other's anonymous volume is gone")
	}
	if err := r.Remove(t.Context(), id, RemoveOptions{Volumes: true, Force: true}); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(r.volumes.dir)
	if len(left) != 1 || left[0].Name() != "data" {
		t.Errorf("volumes left: %v", left)
	}
}

func TestResolveUser(t *testing.T) {
	passwd, group := []byte("root:x:0:0::/root:\nann:x:1000:1001::/:\n"), []byte("ann:x:1001:\nwheel:x:10:ann\n")
	for who, want := range map[string][]uint32{"": {0, 0, 0}, "ann": {1000, 1001, 1001, 10}, "ann:wheel": {1000, 10, 10}, "1000": {1000, 1001, 1001, 10}, "77:88": {77, 88, 88}} {
		u, err := resolveUser(passwd, group, who, nil)
		if got := append([]uint32{u.UID, u.GID}, u.AdditionalGids...); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q is %v, %v", who, got, err)
		}
	}
	if _, err := resolveUser(passwd, group, "bob", nil); err == nil || !strings.Contains(err.Error(), "unable to find user bob: no matching entries in passwd file") {
		t.Errorf("an unknown user: %v", err)
	}
}

func TestLinks(t *testing.T) {
	for link, want := range map[string][2]string{"db": {"db", "db"}, "db:d": {"db", "d"}, "/db:/web/d": {"db", "d"}} {
		if name, alias, err := linked(link); err != nil || name != want[0] || alias != want[1] {
			t.Errorf("%s: %s %s %v", link, name, alias, err)
		}
	}
	for _, link := range []string{"", ":x", "db:", "a b:x", "db:a b"} {
		if _, _, err := linked(link); err == nil {
			t.Errorf("%q is taken", link)
		}
	}
	r := newRig(t)
	r.run("db", nil)
	id := r.run("web", func(_ *container.Config, h *container.HostConfig) { h.Links = []string{"db:store"} })
	got, _ := r.Inspect(t.Context(), id, false)
	if hosts, _ := os.ReadFile(got.HostsPath); !strings.Contains(string(hosts), "172.17.0.2\tstore ") {
		t.Errorf("/etc/hosts is\n%s", hosts)
	}
	if !slices.Equal(got.HostConfig.Links, []string{"/db:/web/store"}) {
		t.Errorf("inspect shows links %q", got.HostConfig.Links)
	}
	list, err := r.List(t.Context(), ListOptions{Filters: filter.Args{"name": {"db"}}})
	if err != nil || len(list) != 1 || !slices.Equal(list[0].Names, []string{"/db", "/web/store"}) {
		t.Errorf("the list is %+v, %v", list, err)
	}
}

func TestPartOfAVolume(t *testing.T) {
	r := newRig(t)
	part := func(name string) string {
		return r.create(name, func(_ *container.Config, h *container.HostConfig) {
			h.Mounts = []mount.Mount{{Type: mount.TypeVolume, Source: "data", Target: "/etc", VolumeOptions: &mount.VolumeOptions{Subpath: "part"}}}
		})
	}
	part("early") // makes the volume; the part is missing, which its start would say
	dir := filepath.Join(r.volumes.dir, "data")
	if err := os.Mkdir(filepath.Join(dir, "part"), 0o755); err != nil {
		t.Fatal(err)
	}
	part("filled")
	if text, _ := os.ReadFile(filepath.Join(dir, "part", "passwd")); !strings.Contains(string(text), "ann") {
		t.Error("the empty part was not filled from the image")
	}
	if err := os.RemoveAll(filepath.Join(dir, "part")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "part")); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), part("outside")); err == nil || !strings.Contains(err.Error(), "path concatenation escapes the base directory") {
		t.Errorf("a part that is a link out of the volume: %v", err)
	}
}

func TestExtraHosts(t *testing.T) {
	for text, want := range map[string]string{"a:1.2.3.4": "1.2.3.4", "a=1.2.3.4": "1.2.3.4", "a:::1": "::1", "a=[::1]": "::1", "a:host-gateway": "invalid IP"} {
		if e, err := parseExtraHost(text); err != nil || e.name != "a" || e.addr.String() != want {
			t.Errorf("%s: %+v, %v", text, e, err)
		}
	}
	for _, text := range []string{"", "a", ":1.2.3.4", "a b:1.2.3.4", "a\n:1.2.3.4", "a:1.2.3.4\nb"} {
		if e, err := parseExtraHost(text); err == nil {
			t.Errorf("%q is %+v", text, e)
		}
	}
}

func FuzzDecodeSpec(f *testing.F) {
	f.Add([]byte(`{"Version":1,"ID":"x","Config":{},"HostConfig":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := decodeSpec(data); err == nil {
			stateView(&State{})
			hostConfigView(s)
			portViews(s, &State{Status: container.StateRunning})
			command(s.Args)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	f.Add([]byte(`{"Version":1,"Status":"running"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := decodeState(data); err == nil {
			statusText(s, time.Now())
		}
	})
}

func FuzzParseExtraHost(f *testing.F) {
	f.Add("a:1.2.3.4")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseExtraHost(text)
		if err == nil && strings.Count(string(hostsContent([]byte{}, []hostEntry{e}, nil)), "\n") != 2 {
			t.Errorf("%q breaks the file", text)
		}
	})
}

func FuzzLinked(f *testing.F) {
	f.Add("/db:/web/alias")
	f.Fuzz(func(t *testing.T, text string) {
		if name, alias, err := linked(text); err == nil && (strings.ContainsAny(name+alias, "\n\t ") || name == "" || alias == "") {
			t.Errorf("%q is %q, %q", text, name, alias)
		}
	})
}
