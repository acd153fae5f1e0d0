//go:build linux

package container

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/getberth/berth/engine/container/oci"
)

// Create makes a container; name may be empty. Its document is durable before its root filesystem and volumes are made.
func (s *Service) Create(ctx context.Context, name string, req container.CreateRequest, platform *ocispec.Platform) (container.CreateResponse, error) {
	spec, warnings, err := s.plan(ctx, req, platform)
	if err != nil {
		return container.CreateResponse{}, err
	}
	if err := s.takeName(spec, name); err != nil {
		return container.CreateResponse{}, err
	}
	c := newInstance(spec, &State{Version: documentVersion, Status: container.StateCreated})
	if err := s.store.create(spec, c.state); err != nil {
		s.reg.release(spec.Name, spec.ID)
		return container.CreateResponse{}, err
	}
	if err := s.furnish(ctx, c); err != nil {
		s.demolish(c)
		return container.CreateResponse{}, err
	}
	s.reg.add(c)
	spec, _ = c.view()
	s.emit(spec, events.ActionCreate)
	if warnings == nil {
		warnings = []string{}
	}
	return container.CreateResponse{ID: spec.ID, Warnings: warnings}, nil
}

func (s *Service) takeName(spec *Spec, name string) error {
	if name == "" {
		made, err := s.reg.reserveMadeUp(spec.ID)
		spec.Name = made
		return err
	}
	name, err := checkName(name)
	if err != nil {
		return err
	}
	spec.Name = name
	return s.reg.reserve(name, spec.ID)
}

// plan turns a request into a spec; it changes nothing.
func (s *Service) plan(ctx context.Context, req container.CreateRequest, platform *ocispec.Platform) (*Spec, []string, error) {
	if req.Config == nil {
		return nil, nil, invalid("config cannot be empty in order to create a container")
	}
	if req.Config.Image == "" {
		return nil, nil, invalid("no image specified")
	}
	imageID, image, err := s.deps.Images.Config(ctx, req.Config.Image, platform)
	if err != nil {
		return nil, nil, err
	}
	config, err := mergeImage(*req.Config, image.Config)
	if err != nil {
		return nil, nil, err
	}
	hc := cloneHostConfig(req.HostConfig)
	if err := firstError(
		func() error { return validateConfig(config) },
		func() error { return s.validateHost(hc, config) },
	); err != nil {
		return nil, nil, err
	}
	warnings := s.sys.dropUnsupported(&hc.Resources)
	warnings = append(warnings, hostWarnings(hc)...)
	spec := &Spec{Version: documentVersion, ID: newID(), Created: time.Now().UTC(), ImageID: imageID, Platform: platform,
		Config: config, HostConfig: hc}
	if spec.Args = slices.Concat(config.Entrypoint, config.Cmd); len(spec.Args) == 0 {
		return nil, nil, invalid("no command specified")
	}
	if err := s.fillDefaults(spec); err != nil {
		return nil, nil, err
	}
	if spec.Networks, err = s.planNetworks(ctx, hc, config, req.NetworkingConfig); err != nil {
		return nil, nil, err
	}
	if err := s.checkLinks(hc); err != nil {
		return nil, nil, err
	}
	if spec.Mounts, err = s.planMounts(config, hc); err != nil {
		return nil, nil, err
	}
	if err := s.resolveImages(ctx, spec.Mounts, platform); err != nil {
		return nil, nil, err
	}
	return spec, warnings, nil
}

// checkLinks wants the containers that this one is linked to; whether they run is seen at the start.
func (s *Service) checkLinks(hc *container.HostConfig) error {
	for _, link := range hc.Links {
		name, _, err := linked(link)
		if err != nil {
			return err
		}
		if _, _, _, err := s.find(name); err != nil {
			return invalid("could not get container for %s: %v", name, err)
		}
	}
	return nil
}

func cloneHostConfig(from *container.HostConfig) *container.HostConfig {
	if from == nil {
		return &container.HostConfig{}
	}
	hc := *from
	hc.Tmpfs = maps.Clone(from.Tmpfs)
	return &hc
}

func hostWarnings(hc *container.HostConfig) []string {
	var w []string
	if hc.NetworkMode.IsHost() && len(hc.PortBindings) > 0 {
		w = append(w, "Published ports are discarded when using host network mode")
	}
	if hc.OomKillDisable != nil && *hc.OomKillDisable && hc.Memory == 0 {
		w = append(w, "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
	}
	return w
}

// fillDefaults writes down what the container gets without having asked, so that inspect shows it and an engine with other
// defaults does not change it.
func (s *Service) fillDefaults(spec *Spec) error {
	c, hc := spec.Config, spec.HostConfig
	if err := s.fillModes(spec); err != nil {
		return err
	}
	if c.Hostname == "" && !hc.UTSMode.IsHost() && !hc.NetworkMode.IsContainer() && !hc.NetworkMode.IsHost() {
		c.Hostname = shortID(spec.ID)
	}
	if hc.ShmSize == 0 {
		hc.ShmSize = s.defaults.Load().ShmSize
	}
	if hc.RestartPolicy.Name == "" {
		hc.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if hc.Memory > 0 && hc.MemorySwap == 0 {
		hc.MemorySwap = hc.Memory * 2
	}
	if hc.CgroupParent == "" {
		hc.CgroupParent = s.cfg.CgroupParent
	}
	if hc.Runtime == "" {
		hc.Runtime = "runc"
	}
	s.fillSecurity(hc)
	hc.LogConfig = withLogDefaults(s.cfg, hc.LogConfig)
	_, err := logConfig(s.cfg, hc.LogConfig, spec, "")
	return err
}

func (s *Service) fillModes(spec *Spec) error {
	hc := spec.HostConfig
	switch {
	case spec.Config.NetworkDisabled:
		hc.NetworkMode = network.NetworkNone
	case hc.NetworkMode == "" || hc.NetworkMode.IsDefault():
		hc.NetworkMode = network.NetworkBridge
	}
	if hc.IpcMode.IsEmpty() {
		hc.IpcMode = s.defaults.Load().IpcMode
	}
	if hc.CgroupnsMode.IsEmpty() {
		hc.CgroupnsMode = s.defaults.Load().CgroupnsMode
		if hc.Privileged && s.sys.v2 {
			hc.CgroupnsMode = container.CgroupnsModeHost
		}
	}
	return s.resolveModes(hc)
}

// resolveModes replaces the names of other containers by ids, so that renaming those changes nothing.
func (s *Service) resolveModes(hc *container.HostConfig) error {
	resolve := func(ref string) (string, error) {
		other, err := s.reg.find(ref)
		if err != nil {
			return "", err
		}
		return "container:" + other.id, nil
	}
	if hc.NetworkMode.IsContainer() {
		mode, err := resolve(hc.NetworkMode.ConnectedContainer())
		if err != nil {
			return err
		}
		hc.NetworkMode = container.NetworkMode(mode)
	}
	if hc.PidMode.IsContainer() {
		mode, err := resolve(hc.PidMode.Container())
		if err != nil {
			return invalid("%v", err)
		}
		hc.PidMode = container.PidMode(mode)
	}
	if hc.IpcMode.IsContainer() {
		mode, err := resolve(hc.IpcMode.Container())
		if err != nil {
			return err
		}
		hc.IpcMode = container.IpcMode(mode)
	}
	return nil
}

func (s *Service) fillSecurity(hc *container.HostConfig) {
	sec, _ := oci.ParseSecurity(hc.SecurityOpt, s.host)
	hc.CapAdd, hc.CapDrop = normalized(hc.CapAdd), normalized(hc.CapDrop)
	if hc.Privileged || sec.UnmaskedPaths {
		if sec.UnmaskedPaths {
			hc.MaskedPaths, hc.ReadonlyPaths = []string{}, []string{}
		}
		return
	}
	if hc.MaskedPaths == nil {
		hc.MaskedPaths = oci.DefaultMaskedPaths()
	}
	if hc.ReadonlyPaths == nil {
		hc.ReadonlyPaths = oci.DefaultReadonlyPaths()
	}
}

func normalized(caps []string) []string {
	if len(caps) == 0 {
		return caps
	}
	return oci.NormalizedCaps(caps)
}

// furnish makes what the container keeps beside its document.
func (s *Service) furnish(ctx context.Context, c *instance) error {
	spec, _ := c.view()
	if err := s.deps.Images.PrepareRootFS(ctx, spec.ID, spec.ImageID, spec.Platform); err != nil {
		return err
	}
	if err := s.furnishImages(ctx, spec); err != nil {
		return err
	}
	if !hasVolumes(spec) {
		return nil
	}
	return s.furnishVolumes(ctx, c)
}

// demolish undoes a create that failed.
func (s *Service) demolish(c *instance) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), tearDownTimeout)
	defer cancel()
	spec, _ := c.view()
	s.reg.release(spec.Name, spec.ID)
	err := s.store.bury(spec.ID)
	s.releaseVolumes(ctx, spec, true)
	err = errors.Join(err, s.deps.Images.RemoveRootFS(ctx, spec.ID), s.removeImageMounts(ctx, spec), s.store.clear(spec.ID))
	if err != nil && !errdefs.IsNotFound(err) {
		s.log.Error("clearing up after a failed create", "id", spec.ID, "error", err)
	}
}
