package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
)

// createBody is a request to create a container with fields that newer API versions have no more.
type createBody struct {
	container.CreateRequest
	legacy struct {
		MacAddress network.HardwareAddr
		HostConfig struct{ Capabilities []string }
	}
}

func (b *createBody) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &b.CreateRequest); err != nil {
		return err
	}
	return json.Unmarshal(data, &b.legacy)
}

func containerCreate(c *call) error {
	var body createBody
	if err := c.mustBody(&body); err != nil {
		return err
	}
	req := body.CreateRequest
	if req.Config == nil {
		return invalid("config cannot be empty in order to create a container")
	}
	complete(&req)
	platform, err := c.platform("platform")
	if err != nil {
		return err
	}
	if c.v < 41 {
		platform = nil
	}
	warnings, err := c.adaptCreate(&req, &body)
	if err != nil {
		return err
	}
	answer, err := c.Containers.Create(c.act(), c.get("name"), req, platform)
	answer.Warnings = list(append(answer.Warnings, warnings...))
	return reply(c, http.StatusCreated, answer, err)
}

// complete fills in what clients may leave out, and gives the default network its name.
func complete(req *container.CreateRequest) {
	if req.HostConfig == nil {
		req.HostConfig = &container.HostConfig{}
	}
	if req.NetworkingConfig == nil {
		req.NetworkingConfig = &network.NetworkingConfig{}
	}
	h, endpoints := req.HostConfig, dict(req.NetworkingConfig.EndpointsConfig)
	req.NetworkingConfig.EndpointsConfig = endpoints
	for name, e := range endpoints {
		if e == nil {
			endpoints[name] = &network.EndpointSettings{}
		}
	}
	if h.NetworkMode == "" || h.NetworkMode.IsDefault() {
		h.NetworkMode = network.NetworkBridge
	}
	if e, ok := endpoints[network.NetworkDefault]; ok {
		delete(endpoints, network.NetworkDefault)
		endpoints[network.NetworkBridge] = e
	}
	for port, bindings := range h.PortBindings {
		if len(bindings) == 0 { // any free port
			h.PortBindings[port] = []network.PortBinding{{}}
		}
	}
	if h.PidsLimit != nil && *h.PidsLimit <= 0 {
		h.PidsLimit = nil
	}
}

// adaptCreate makes of a request of an older API version what it meant there.
func (c *call) adaptCreate(req *container.CreateRequest, body *createBody) (warnings []string, err error) {
	h := req.HostConfig
	if c.v < 40 && h.IpcMode.IsEmpty() {
		h.IpcMode = container.IPCModeShareable
	}
	if c.v < 42 {
		h.ConsoleSize = [2]uint{}
	}
	if c.v < 43 {
		h.Annotations = nil
	}
	if c.v < 44 && req.Healthcheck != nil {
		req.Healthcheck.StartInterval = 0
	}
	if c.v < 56 {
		h.Umask = nil
	}
	if c.v == 40 && len(body.legacy.HostConfig.Capabilities) > 0 {
		return nil, invalid("the HostConfig.Capabilities field is not supported; use CapAdd and CapDrop to set capabilities")
	}
	for i := range h.Mounts {
		if err := c.adaptMount(&h.Mounts[i]); err != nil {
			return nil, err
		}
	}
	if err := c.adaptEndpoints(req); err != nil {
		return nil, err
	}
	return c.adaptMAC(req, body.legacy.MacAddress)
}

func (c *call) adaptMount(m *mount.Mount) error {
	if c.v < 42 { // options of another type were ignored
		if m.Type != mount.TypeVolume {
			m.VolumeOptions = nil
		}
		if m.Type != mount.TypeTmpfs {
			m.TmpfsOptions = nil
		}
	}
	switch b := m.BindOptions; {
	case b != nil && m.Type != mount.TypeBind && c.v >= 42:
		return invalid("BindOptions must not be specified on mount type %q", m.Type)
	case b != nil && b.ReadOnlyForceRecursive && c.v < 44:
		return invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
	case b != nil && c.v < 42:
		b.CreateMountpoint = false
		b.NonRecursive = b.NonRecursive && c.v >= 40
	}
	switch {
	case m.VolumeOptions != nil && m.Type != mount.TypeVolume:
		return invalid("VolumeOptions must not be specified on mount type %q", m.Type)
	case m.TmpfsOptions != nil && m.Type != mount.TypeTmpfs:
		return invalid("TmpfsOptions must not be specified on mount type %q", m.Type)
	case m.VolumeOptions != nil && m.VolumeOptions.Subpath != "" && c.v < 45:
		return invalid("VolumeOptions.Subpath needs API v1.45 or newer")
	case m.Type == mount.TypeImage && c.v < 48:
		return invalid(`Mount type "Image" needs API v1.48 or newer`)
	}
	c.adaptReadOnly(m)
	return nil
}

// adaptReadOnly keeps what a read-only bind meant before API 1.44: the mounts below it stay writable.
func (c *call) adaptReadOnly(m *mount.Mount) {
	if c.v >= 44 || m.Type != mount.TypeBind || !m.ReadOnly {
		return
	}
	if m.BindOptions == nil {
		m.BindOptions = &mount.BindOptions{}
	}
	m.BindOptions.ReadOnlyNonRecursive = true
}

func (c *call) adaptEndpoints(req *container.CreateRequest) error {
	endpoints := req.NetworkingConfig.EndpointsConfig
	if c.v < 44 && len(endpoints) > 1 {
		names := make([]string, 0, len(endpoints))
		for name := range endpoints {
			names = append(names, name)
		}
		slices.Sort(names)
		return invalid("Container cannot be created with multiple network endpoints: %s", strings.Join(names, ", "))
	}
	if c.v < 48 {
		for _, e := range endpoints {
			e.GwPriority = 0
		}
	}
	return nil
}

// adaptMAC moves a container's hardware address to its endpoint, where it belongs since API 1.44.
func (c *call) adaptMAC(req *container.CreateRequest, mac network.HardwareAddr) ([]string, error) {
	endpoints, mode := req.NetworkingConfig.EndpointsConfig, req.HostConfig.NetworkMode
	if len(mac) == 0 {
		if c.v < 44 {
			for _, e := range endpoints {
				e.MacAddress = nil
			}
		}
		return nil, nil
	}
	if c.v >= 52 {
		return nil, invalid("container-wide MAC address no longer supported; use endpoint-specific MAC address instead")
	}
	if !mode.IsBridge() && !mode.IsUserDefined() {
		return nil, invalid("conflicting options: mac-address and the network mode")
	}
	e := endpoints[mode.NetworkName()]
	if e == nil {
		if len(endpoints) > 0 && c.v >= 44 {
			return nil, invalid("unable to migrate container-wide MAC address to a specific network: HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks")
		}
		e = &network.EndpointSettings{}
		endpoints[mode.NetworkName()] = e
	}
	if c.v >= 44 && len(e.MacAddress) > 0 && !slices.Equal(e.MacAddress, mac) {
		return nil, invalid("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
	}
	e.MacAddress = mac
	if c.v < 44 {
		return nil, nil
	}
	return []string{"The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."}, nil
}
