//go:build linux

package container

import (
	"context"
	"maps"
	"path"
	"runtime"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"
)

// Inspect describes a container as Docker does; size adds what it holds on disk.
func (s *Service) Inspect(ctx context.Context, ref string, size bool) (container.InspectResponse, error) {
	c, spec, state, err := s.find(ref)
	if err != nil {
		return container.InspectResponse{}, err
	}
	r := container.InspectResponse{
		ID: spec.ID, Created: formatTime(spec.Created), Path: spec.Args[0], Args: append([]string{}, spec.Args[1:]...),
		State: stateView(state), Image: spec.ImageID, Name: "/" + spec.Name, RestartCount: state.RestartCount,
		Driver: s.cfg.StorageDriver, Platform: runtime.GOOS, ExecIDs: c.execIDs(),
		HostConfig: hostConfigView(spec), Config: configView(spec.Config),
		Mounts: mountViews(spec), NetworkSettings: s.networkView(ctx, spec, state),
		Storage: &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: s.cfg.StorageDriver}}},
	}
	s.setPaths(&r, spec)
	if size {
		rw, total, err := s.deps.Images.RootFSSize(ctx, spec.ID)
		if err != nil {
			return container.InspectResponse{}, err
		}
		r.SizeRw, r.SizeRootFs = &rw, &total
	}
	return r, nil
}

func (s *Service) setPaths(r *container.InspectResponse, spec *Spec) {
	if spec.HostConfig.LogConfig.Type == defaultLogDriver {
		r.LogPath = s.logPath(spec.ID)
	}
	if spec.HostConfig.NetworkMode.IsContainer() {
		return
	}
	if fileExists(s.store.path(spec.ID, hostsFile)) {
		r.HostsPath = s.store.path(spec.ID, hostsFile)
		r.HostnamePath = s.store.path(spec.ID, hostnameFile)
		r.ResolvConfPath = s.store.path(spec.ID, resolvConfFile)
	}
}

func (c *instance) execIDs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.execs) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(c.execs))
}

func stateView(s *State) *container.State {
	return &container.State{
		Status: s.Status, Running: s.active(), Paused: s.Status == container.StatePaused,
		Restarting: s.Status == container.StateRestarting, OOMKilled: s.OOMKilled, Dead: s.Status == container.StateDead,
		Pid: s.PID, ExitCode: s.ExitCode, Error: s.Error, StartedAt: formatTime(s.StartedAt), FinishedAt: formatTime(s.FinishedAt),
		Health: s.Health,
	}
}

// hostConfigView fills in the lists that Docker never shows as null.
func hostConfigView(spec *Spec) *container.HostConfig {
	v := *spec.HostConfig
	v.Links = nil
	for _, link := range spec.HostConfig.Links {
		if name, alias, err := linked(link); err == nil {
			v.Links = append(v.Links, "/"+name+":/"+spec.Name+"/"+alias)
		}
	}
	slices.Sort(v.Links)
	if v.PortBindings == nil {
		v.PortBindings = network.PortMap{}
	}
	v.DNSOptions, v.DNSSearch = notNil(v.DNSOptions), notNil(v.DNSSearch)
	v.Devices, v.BlkioWeightDevice = notNil(v.Devices), notNil(v.BlkioWeightDevice)
	v.BlkioDeviceReadBps, v.BlkioDeviceWriteBps = notNil(v.BlkioDeviceReadBps), notNil(v.BlkioDeviceWriteBps)
	v.BlkioDeviceReadIOps, v.BlkioDeviceWriteIOps = notNil(v.BlkioDeviceReadIOps), notNil(v.BlkioDeviceWriteIOps)
	v.DNS = notNil(v.DNS)
	return &v
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func configView(c *container.Config) *container.Config {
	v := *c
	v.Env = notNil(v.Env)
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	return &v
}

// mountViews leaves out what --tmpfs asked for, as Docker does: it is shown with the host's configuration.
func mountViews(spec *Spec) []container.MountPoint {
	list := make([]container.MountPoint, 0, len(spec.Mounts))
	for _, p := range spec.Mounts {
		if p.Type == mount.TypeTmpfs && isTmpfsOption(spec.HostConfig, p.Destination) {
			continue
		}
		m := container.MountPoint{
			Type: p.Type, Name: p.Name, Source: p.Source, Destination: p.Destination, Driver: p.Driver, Mode: p.Mode,
			RW: !p.ReadOnly, Propagation: p.Propagation,
		}
		switch {
		case p.Type == mount.TypeTmpfs:
			m.Mode, m.Source = "", ""
		case p.Type == mount.TypeVolume && !p.Anonymous && p.Mode == "":
			m.Mode = "z" // what Docker shows for volumes that were asked for by name
		}
		list = append(list, m)
	}
	return list
}

func isTmpfsOption(hc *container.HostConfig, dest string) bool {
	for option := range hc.Tmpfs {
		if path.Clean(option) == dest {
			return true
		}
	}
	return false
}

func (s *Service) networkView(ctx context.Context, spec *Spec, state *State) *container.NetworkSettings {
	v := &container.NetworkSettings{SandboxKey: state.SandboxPath, Ports: openPorts(spec, state), Networks: s.endpointViews(ctx, spec, state)}
	if state.running() {
		v.SandboxID = spec.ID
	}
	return v
}

// openPorts are those that are published, and with no binding those that are exposed only, while the container runs.
func openPorts(spec *Spec, state *State) network.PortMap {
	ports := network.PortMap{}
	if !state.running() {
		return ports
	}
	for port := range spec.Config.ExposedPorts {
		ports[port] = nil
	}
	maps.Copy(ports, state.Ports)
	return ports
}

// endpointViews shows the operational endpoint while there is one, and what was asked for otherwise, with the network's id, by
// which compose knows whether a container is up to date.
func (s *Service) endpointViews(ctx context.Context, spec *Spec, state *State) map[string]*network.EndpointSettings {
	views := map[string]*network.EndpointSettings{}
	for _, n := range spec.Networks {
		ep := state.Endpoints[n.Ref]
		if ep == nil {
			ep = orEmpty(n.Endpoint)
		}
		if ep.NetworkID == "" {
			ep = ep.Copy()
			ep.NetworkID, _, _, _ = s.deps.Networks.Resolve(ctx, n.Ref) // empty for one that is not there
		}
		views[n.Ref] = ep
	}
	return views
}
