//go:build linux

package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// planNetworks lists the networks to plug, the one of the network mode first. Whether they exist is seen at the start: they may
// be made until then.
func (s *Service) planNetworks(ctx context.Context, hc *container.HostConfig, c *container.Config, nc *network.NetworkingConfig) ([]NetworkSpec, error) {
	asked := map[string]*network.EndpointSettings{}
	if nc != nil {
		for ref, ep := range nc.EndpointsConfig {
			if ref == network.NetworkDefault {
				ref = network.NetworkBridge
			}
			asked[s.networkName(ctx, ref)] = orEmpty(ep)
		}
	}
	if hc.NetworkMode.IsContainer() {
		if len(asked) > 0 {
			return nil, invalid("conflicting options: cannot attach a container to networks that shares the network of another")
		}
		return nil, nil
	}
	primary := s.networkName(ctx, string(hc.NetworkMode))
	if hc.NetworkMode.IsUserDefined() {
		hc.NetworkMode = container.NetworkMode(primary)
	}
	list := []NetworkSpec{{Ref: primary, Endpoint: orEmpty(asked[primary])}}
	delete(asked, primary)
	if len(asked) > 0 && (hc.NetworkMode.IsHost() || hc.NetworkMode.IsNone()) {
		return nil, invalid("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
	}
	for _, ref := range slices.Sorted(maps.Keys(asked)) {
		list = append(list, NetworkSpec{Ref: ref, Endpoint: asked[ref]})
	}
	return list, validateEndpoints(list)
}

func orEmpty(ep *network.EndpointSettings) *network.EndpointSettings {
	if ep == nil {
		return &network.EndpointSettings{}
	}
	return ep.Copy()
}

// networkName turns an id into a name, so that inspect shows it; what is not known yet stays as it is.
func (s *Service) networkName(ctx context.Context, ref string) string {
	if _, name, _, err := s.deps.Networks.Resolve(ctx, ref); err == nil {
		return name
	}
	return ref
}

func validateEndpoints(list []NetworkSpec) error {
	for _, n := range list {
		user := n.Ref != network.NetworkBridge && n.Ref != network.NetworkHost && n.Ref != network.NetworkNone
		if !user && len(n.Endpoint.Aliases) > 0 {
			return invalid("network-scoped aliases are only supported for user-defined networks")
		}
		if ipam := n.Endpoint.IPAMConfig; !user && ipam != nil && (ipam.IPv4Address.IsValid() || ipam.IPv6Address.IsValid()) {
			return invalid("user specified IP address is supported on user defined networks only")
		}
	}
	return nil
}

// namesIn are the names by which others find the container in a network.
func namesIn(spec *Spec, ep *network.EndpointSettings) []string {
	names := append([]string{spec.Name, shortID(spec.ID)}, ep.Aliases...)
	if h := spec.Config.Hostname; h != "" && h != shortID(spec.ID) {
		names = append(names, h)
	}
	return names
}

// connected is what plugging a container in has led to.
type connected struct {
	sandbox   string // path of the network namespace; empty for the host's
	endpoints map[string]*network.EndpointSettings
	ports     network.PortMap
}

// plug makes the container's network namespace and connects it.
func (s *Service) plug(ctx context.Context, spec *Spec) (connected, error) {
	result := connected{endpoints: map[string]*network.EndpointSettings{}}
	if !spec.HostConfig.NetworkMode.IsHost() {
		path, err := s.deps.Networks.CreateSandbox(ctx, spec.ID)
		if err != nil {
			return result, err
		}
		result.sandbox = path
	}
	for _, n := range spec.Networks {
		ep, err := s.deps.Networks.Connect(ctx, spec.ID, n.Ref, n.Endpoint, namesIn(spec, n.Endpoint))
		if err != nil {
			return result, fmt.Errorf("failed to set up container networking: %w", err)
		}
		result.endpoints[n.Ref] = ep
	}
	want := wantedPorts(spec)
	if len(want) == 0 || !publishes(spec.HostConfig.NetworkMode) {
		return result, nil
	}
	ports, err := s.deps.Networks.Publish(ctx, spec.ID, want)
	if err != nil {
		return result, fmt.Errorf("failed to set up container networking: %w", err)
	}
	result.ports = ports
	return result, nil
}

func publishes(mode container.NetworkMode) bool {
	return !mode.IsHost() && !mode.IsNone() && !mode.IsContainer()
}

// wantedPorts are the bindings asked for, and with -P any free port for each exposed one that has none.
func wantedPorts(spec *Spec) network.PortMap {
	want := network.PortMap{}
	for port, bindings := range spec.HostConfig.PortBindings {
		if len(bindings) > 0 {
			want[port] = bindings
		}
	}
	if spec.HostConfig.PublishAllPorts {
		for port := range spec.Config.ExposedPorts {
			if len(want[port]) == 0 {
				want[port] = []network.PortBinding{{}}
			}
		}
	}
	return want
}

// ConnectNetwork adds a network to a container; a running one is plugged in at once.
func (s *Service) ConnectNetwork(ctx context.Context, networkRef, ref string, want *network.EndpointSettings) error {
	c, spec, state, unlock, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	_, name, _, err := s.deps.Networks.Resolve(ctx, networkRef)
	if err != nil {
		return err
	}
	if err := connectable(spec, name); err != nil {
		return err
	}
	added := NetworkSpec{Ref: name, Endpoint: orEmpty(want)}
	if err := validateEndpoints([]NetworkSpec{added}); err != nil {
		return err
	}
	if slices.ContainsFunc(spec.Networks, func(n NetworkSpec) bool { return n.Ref == name }) {
		if state.running() {
			return forbidden("container %s is already attached to network %s", spec.ID, name)
		}
		spec = withoutNetwork(c, name)
	}
	if state.running() {
		if err := s.plugOne(ctx, c, spec, added); err != nil {
			return err
		}
	}
	spec = c.setSpec(func(sp *Spec) {
		sp.Networks = slices.DeleteFunc(slices.Clone(sp.Networks), func(n NetworkSpec) bool { return n.Ref == network.NetworkNone })
		sp.Networks = append(sp.Networks, added)
	})
	return s.store.saveSpec(spec)
}

func connectable(spec *Spec, name string) error {
	mode := spec.HostConfig.NetworkMode
	switch {
	case mode.IsContainer():
		return invalid("container sharing network namespace with another container or host cannot be connected to any other network")
	case mode.IsHost() || name == network.NetworkHost:
		return invalid("container cannot be disconnected from host network or connected to host network")
	case name == network.NetworkNone && len(spec.Networks) > 0:
		return invalid("container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	return nil
}

func withoutNetwork(c *instance, name string) *Spec {
	return c.setSpec(func(sp *Spec) {
		sp.Networks = slices.DeleteFunc(slices.Clone(sp.Networks), func(n NetworkSpec) bool { return n.Ref == name })
	})
}

func (s *Service) plugOne(ctx context.Context, c *instance, spec *Spec, n NetworkSpec) error {
	resolv, err := s.resolvConf(ctx, spec)
	if err != nil {
		return err
	}
	ep, err := s.deps.Networks.Connect(ctx, spec.ID, n.Ref, n.Endpoint, namesIn(spec, n.Endpoint))
	if err != nil {
		return err
	}
	state := c.setState(func(st *State) {
		st.Endpoints = maps.Clone(st.Endpoints)
		if st.Endpoints == nil {
			st.Endpoints = map[string]*network.EndpointSettings{}
		}
		st.Endpoints[n.Ref] = ep
	})
	s.persist(c)
	if len(state.Ports) == 0 && ep.Gateway.IsValid() {
		if state, err = s.publish(ctx, c, spec); err != nil {
			return err
		}
	}
	return errors.Join(s.refreshHosts(spec, state), s.refreshResolvConf(ctx, spec, resolv))
}

// publish opens a running container's ports on the network that leads out now, or closes them when none does.
func (s *Service) publish(ctx context.Context, c *instance, spec *Spec) (*State, error) {
	_, state := c.view()
	want := wantedPorts(spec)
	if len(want) == 0 || !publishes(spec.HostConfig.NetworkMode) {
		return state, nil
	}
	ports, err := s.deps.Networks.Publish(ctx, spec.ID, want)
	if err != nil {
		return state, err
	}
	state = c.setState(func(st *State) { st.Ports = ports })
	s.persist(c)
	return state, nil
}

// leadsOut says whether one of a container's networks has a gateway.
func leadsOut(state *State) bool {
	for _, ep := range state.Endpoints {
		if ep.Gateway.IsValid() {
			return true
		}
	}
	return false
}

// DisconnectNetwork takes a container out of a network.
func (s *Service) DisconnectNetwork(ctx context.Context, networkRef, ref string, force bool) error {
	c, spec, state, unlock, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	_, name, _, err := s.deps.Networks.Resolve(ctx, networkRef)
	if err != nil {
		return err
	}
	if spec.HostConfig.NetworkMode.IsHost() {
		return invalid("container cannot be disconnected from host network or connected to host network")
	}
	if !slices.ContainsFunc(spec.Networks, func(n NetworkSpec) bool { return n.Ref == name }) {
		return forbidden("container %s is not connected to network %s", spec.ID, name)
	}
	if state.running() {
		if err := s.unplugOne(ctx, c, spec, name, force); err != nil {
			return err
		}
	}
	return s.store.saveSpec(withoutNetwork(c, name))
}

func (s *Service) unplugOne(ctx context.Context, c *instance, spec *Spec, name string, force bool) error {
	resolv, err := s.resolvConf(ctx, spec)
	if err != nil {
		return err
	}
	if err := s.deps.Networks.Disconnect(ctx, spec.ID, name, force); err != nil {
		return err
	}
	state := c.setState(func(st *State) {
		st.Endpoints = maps.Clone(st.Endpoints)
		delete(st.Endpoints, name)
	})
	s.persist(c)
	if len(state.Ports) > 0 && !leadsOut(state) {
		if state, err = s.publish(ctx, c, spec); err != nil {
			return err
		}
	}
	return errors.Join(s.refreshHosts(spec, state), s.refreshResolvConf(ctx, spec, resolv))
}

// renamer is a network service that can follow a container's new name.
type renamer interface {
	Rename(ctx context.Context, containerID, from, to string) error
}

// isStatic says that ending must free addresses or ports before anybody is told, since the next container may want the same.
func isStatic(spec *Spec, state *State) bool {
	if len(state.Ports) > 0 {
		return true
	}
	for _, n := range spec.Networks {
		if n.Ref != network.NetworkBridge && n.Ref != network.NetworkHost && n.Ref != network.NetworkNone {
			return true
		}
		if n.Endpoint != nil && len(n.Endpoint.MacAddress) > 0 {
			return true
		}
	}
	return false
}

// linked splits NAME[:ALIAS].
func linked(link string) (name, alias string, err error) {
	name, alias, found := strings.Cut(link, ":")
	name = strings.TrimPrefix(name, "/")
	if found { // what inspect shows is /NAME:/CONTAINER/ALIAS
		alias = alias[strings.LastIndexByte(alias, '/')+1:]
	} else {
		alias = name
	}
	if !validName(name) || !validHostname(alias) {
		return "", "", invalid("bad format for links: %s", link)
	}
	return name, alias, nil
}
