//go:build linux

package engine

import (
	"context"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/getberth/berth/engine/api"
	"github.com/getberth/berth/engine/config"
	ctr "github.com/getberth/berth/engine/container"
	rt "github.com/getberth/berth/engine/runtime"
)

// about implements api.System from what the services and the host tell.
type about struct {
	config  func() config.Config
	build   Build
	runc    func() string // version
	host    host
	started time.Time

	containers interface {
		List(context.Context, ctr.ListOptions) ([]container.Summary, error)
	}
	images  imageStore
	volumes interface {
		Usage(context.Context) ([]volume.Volume, error)
	}
	listeners   func() int      // clients that follow events
	warnings    func() []string // of services that work only in part
	snapshotter string
}

type imageStore interface {
	Count(context.Context) (int, error)
	DiskUsage(ctx context.Context, verbose bool) (image.DiskUsage, error)
}

// Info is what `docker info` shows.
func (a *about) Info(ctx context.Context) (system.Info, error) {
	c := a.config()
	info := system.Info{
		Driver: a.snapshotter, DriverStatus: [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}},
		Plugins: system.PluginsInfo{
			Volume: []string{"local"}, Network: []string{"bridge", "host", "null"}, Log: config.LogDrivers(),
		},
		IPv4Forwarding: readLine("/proc/sys/net/ipv4/ip_forward") == "1",
		Debug:          c.Debug, ExperimentalBuild: c.Experimental,
		NFd: countFiles("/proc/self/fd"), NGoroutines: runtime.NumGoroutine(), NEventsListener: a.listeners(),
		SystemTime: time.Now().Format(time.RFC3339Nano), NCPU: runtime.NumCPU(),
		LoggingDriver: c.LogDriver, DockerRootDir: c.DataRoot, Labels: nonNil(c.Labels),
		IndexServerAddress: "https://index.docker.io/v1/", RegistryConfig: a.registries(),
		HTTPProxy: os.Getenv("HTTP_PROXY"), HTTPSProxy: os.Getenv("HTTPS_PROXY"), NoProxy: os.Getenv("NO_PROXY"),
		ServerVersion: a.build.Version, DefaultRuntime: "runc",
		Runtimes:           map[string]system.RuntimeWithStatus{"runc": {Runtime: system.Runtime{Path: "berth-shim"}}},
		RuncCommit:         system.Commit{ID: a.runc()},
		ContainerdCommit:   system.Commit{ID: a.build.Containerd},
		Swarm:              swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive, RemoteManagers: nil},
		LiveRestoreEnabled: c.ContainersStay(),
		SecurityOptions:    []string{"name=seccomp,profile=builtin"},
		InitBinary:         rt.InitName, DefaultAddressPools: addressPools(c.AddressPools),
		CDISpecDirs: []string{}, GenericResources: nil,
		FirewallBackend: &system.FirewallInfo{Driver: "nftables"},
		Warnings:        a.warnings(),
	}
	a.host.fill(&info)
	if a.host.cgroupV2 {
		info.SecurityOptions = append(info.SecurityOptions, "name=cgroupns")
	}
	if err := a.count(ctx, &info); err != nil {
		return system.Info{}, err
	}
	return info, nil
}

func (a *about) count(ctx context.Context, info *system.Info) error {
	containers, err := a.containers.List(ctx, ctr.ListOptions{All: true})
	if err != nil {
		return err
	}
	for _, c := range containers {
		switch c.State {
		case container.StateRunning, container.StateRestarting:
			info.ContainersRunning++
		case container.StatePaused:
			info.ContainersPaused++
		default:
			info.ContainersStopped++
		}
	}
	info.Containers = len(containers)
	info.Images, err = a.images.Count(ctx)
	return err
}

// registries says where images come from.
func (a *about) registries() *registry.ServiceConfig {
	c := a.config()
	s := &registry.ServiceConfig{
		InsecureRegistryCIDRs: []netip.Prefix{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("127.0.0.0/8")},
		IndexConfigs: map[string]*registry.IndexInfo{
			"docker.io": {Name: "docker.io", Mirrors: nonNil(c.RegistryMirrors), Secure: true, Official: true},
		},
		Mirrors: nonNil(c.RegistryMirrors),
	}
	for _, r := range c.InsecureRegistries {
		if prefix, err := netip.ParsePrefix(r); err == nil {
			s.InsecureRegistryCIDRs = append(s.InsecureRegistryCIDRs, prefix)
			continue
		}
		s.IndexConfigs[r] = &registry.IndexInfo{Name: r, Mirrors: []string{}}
	}
	return s
}

func addressPools(pools config.Pools) (list []system.NetworkAddressPool) {
	for _, p := range pools {
		list = append(list, system.NetworkAddressPool{Base: p.Base, Size: p.Size})
	}
	return list
}

// Version is what `docker version` shows of the server.
func (a *about) Version(context.Context) (system.VersionResponse, error) {
	details := map[string]string{
		"ApiVersion": api.MaxVersion, "MinAPIVersion": api.MinVersion, "Os": "linux", "Arch": runtime.GOARCH,
		"GitCommit": a.build.Commit, "GoVersion": runtime.Version(), "KernelVersion": a.host.kernel,
		"BuildTime": a.build.Time, "Experimental": "false",
	}
	if a.config().Experimental {
		details["Experimental"] = "true"
	}
	return system.VersionResponse{
		Platform: system.PlatformInfo{Name: "berth engine"},
		Version:  a.build.Version, APIVersion: api.MaxVersion, MinAPIVersion: api.MinVersion, Os: "linux", Arch: runtime.GOARCH,
		Components: []system.ComponentVersion{
			{Name: "Engine", Version: a.build.Version, Details: details},
			{Name: "containerd", Version: a.build.Containerd, Details: map[string]string{"Linked": "library"}},
			{Name: "runc", Version: a.runc(), Details: map[string]string{"Linked": "library, in berth-shim"}},
		},
		GitCommit: a.build.Commit, GoVersion: runtime.Version(), KernelVersion: a.host.kernel,
		Experimental: a.config().Experimental, BuildTime: a.build.Time,
	}, nil
}

// DiskUsage is what `docker system df` shows, of the kinds asked for; the objects themselves only when verbose.
func (a *about) DiskUsage(ctx context.Context, kinds []string, verbose bool) (u system.DiskUsage, err error) {
	for _, kind := range kinds {
		switch system.DiskUsageObject(kind) {
		case system.ContainerObject:
			u.ContainerUsage, err = a.containerUsage(ctx, verbose)
		case system.ImageObject:
			u.ImageUsage, err = a.imageUsage(ctx, verbose)
		case system.VolumeObject:
			u.VolumeUsage, err = a.volumeUsage(ctx, verbose)
		case system.BuildCacheObject:
			u.BuildCacheUsage = &build.DiskUsage{}
		}
		if err != nil {
			return system.DiskUsage{}, err
		}
	}
	return u, nil
}

func (a *about) containerUsage(ctx context.Context, verbose bool) (*container.DiskUsage, error) {
	all, err := a.containers.List(ctx, ctr.ListOptions{All: true, Size: true})
	if err != nil {
		return nil, err
	}
	u := &container.DiskUsage{TotalCount: int64(len(all))}
	for _, c := range all {
		u.TotalSize += c.SizeRw
		switch c.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
			u.ActiveCount++
		default:
			u.Reclaimable += c.SizeRw
		}
	}
	if verbose {
		u.Items = all
	}
	return u, nil
}

func (a *about) imageUsage(ctx context.Context, verbose bool) (*image.DiskUsage, error) {
	u, err := a.images.DiskUsage(ctx, verbose)
	return &u, err
}

func (a *about) volumeUsage(ctx context.Context, verbose bool) (*volume.DiskUsage, error) {
	all, err := a.volumes.Usage(ctx)
	if err != nil {
		return nil, err
	}
	u := &volume.DiskUsage{TotalCount: int64(len(all))}
	for _, v := range all {
		if v.UsageData == nil {
			continue
		}
		size := max(v.UsageData.Size, 0)
		u.TotalSize += size
		if v.UsageData.RefCount > 0 {
			u.ActiveCount++
		} else {
			u.Reclaimable += size
		}
	}
	if verbose {
		u.Items = all
	}
	return u, nil
}

func readLine(path string) string {
	data, _ := os.ReadFile(path)
	return strings.TrimSpace(string(data))
}

func countFiles(dir string) int {
	entries, _ := os.ReadDir(dir)
	return len(entries)
}

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
