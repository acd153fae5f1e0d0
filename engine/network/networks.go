package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/getberth/berth/engine/network/firewall"
	"github.com/getberth/berth/engine/network/ipam"
)

// Drivers, by the names that the API shows.
const (
	driverBridge = "bridge"
	driverHost   = "host"
	driverNull   = "null"
)

// bridgeNetwork is a network, of whatever driver.
type bridgeNetwork struct {
	rec     networkRecord // constant, but for what Open corrects
	options bridgeOptions

	mu   sync.Mutex // held while the bridge is made or removed
	gone bool       // guarded by Service.mu

	pool      *ipam.Pool                 // guarded by Service.mu; nil unless it is a bridge
	endpoints map[string]*endpointRecord // guarded by Service.mu; by container id
}

func (n *bridgeNetwork) isBridge() bool { return n.rec.Driver == driverBridge }

// isDefault reports whether it is the default bridge, where containers know no names.
func (n *bridgeNetwork) isDefault() bool { return n.rec.Name == network.NetworkBridge }

// hasNames reports whether containers find each other by name.
func (n *bridgeNetwork) hasNames() bool { return n.isBridge() && !n.isDefault() }

// newNetwork makes the live object of a document that has been checked.
func (s *Service) newNetwork(rec networkRecord) (*bridgeNetwork, error) {
	n := &bridgeNetwork{rec: rec, endpoints: map[string]*endpointRecord{}}
	var err error
	if n.options, err = parseOptions(rec.Options); err != nil || !n.isBridge() {
		return n, err
	}
	if n.options.mtu == 0 {
		n.options.mtu = s.cfg.MTU
	}
	if n.options.mtu == 0 {
		n.options.mtu = defaultMTU
	}
	n.pool = ipam.NewPool(rec.Subnet, rec.Range)
	for _, a := range rec.Reserved {
		if err := n.pool.Reserve(a); err != nil {
			return nil, fmt.Errorf("auxiliary address %s: %w", a, err)
		}
	}
	if err := n.pool.Reserve(rec.Gateway); err != nil {
		return nil, fmt.Errorf("gateway %s: %w", rec.Gateway, err)
	}
	n.pool.Seek(rec.Gateway)
	return n, nil
}

// loadNetworks reads the documents. One that is damaged is left alone, and told.
func (s *Service) loadNetworks(ctx context.Context) error {
	ids, err := recordNames(s.networksDir())
	if err != nil {
		return err
	}
	for _, id := range ids {
		var rec networkRecord
		err := readRecord(s.networkPath(id), &rec)
		if err == nil && rec.ID != id {
			err = fmt.Errorf("it is about %s", rec.ID)
		}
		if err != nil {
			s.warn(ctx, fmt.Errorf("reading network %s: %w", id, err))
			continue
		}
		n, err := s.newNetwork(rec)
		if err != nil {
			s.warn(ctx, fmt.Errorf("reading network %s: %w", id, err))
			continue
		}
		s.networks[id] = n
	}
	return nil
}

func (s *Service) networkPath(id string) string {
	return filepath.Join(s.networksDir(), id+recordSuffix)
}

// fillRules states what the networks need of the firewall. It needs Service.mu, or that nobody else knows the service yet.
func (s *Service) fillRules(r *firewall.Rules) {
	r.NoLoopback = s.noLoopback.Load()
	for _, n := range s.networks {
		if n.isBridge() {
			r.Bridges[n.rec.Bridge] = n.rules()
		}
	}
	for _, sb := range s.sandboxes {
		maps.Copy(r.Ports, s.targets(sb))
	}
}

func (n *bridgeNetwork) rules() firewall.Bridge {
	return firewall.Bridge{
		Subnet: n.rec.Subnet, Masquerade: n.options.masquerade, Internal: n.rec.Internal, Isolated: n.options.isolated,
	}
}

// Resolve finds a network by name, id or id prefix.
func (s *Service) Resolve(ctx context.Context, ref string) (id, name, driver string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.find(ref)
	if err != nil {
		return "", "", "", err
	}
	return n.rec.ID, n.rec.Name, n.rec.Driver, nil
}

// find needs s.mu.
func (s *Service) find(ref string) (*bridgeNetwork, error) {
	if ref == network.NetworkDefault {
		ref = network.NetworkBridge
	}
	if n, ok := s.networks[ref]; ok {
		return n, nil
	}
	var prefixed []*bridgeNetwork
	for _, n := range s.networks {
		if n.rec.Name == ref {
			return n, nil
		}
		if ref != "" && strings.HasPrefix(n.rec.ID, ref) {
			prefixed = append(prefixed, n)
		}
	}
	switch len(prefixed) {
	case 0:
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", ref))
	case 1:
		return prefixed[0], nil
	}
	return nil, errdefs.ErrInvalidArgument.WithMessage(
		fmt.Sprintf("network %s is ambiguous (%d matches found based on ID prefix)", ref, len(prefixed)))
}

// Inspect shows a network with its containers.
func (s *Service) Inspect(ctx context.Context, ref string) (network.Inspect, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.find(ref)
	if err != nil {
		return network.Inspect{}, err
	}
	result := network.Inspect{Network: n.view(), Containers: map[string]network.EndpointResource{}}
	for id, ep := range n.endpoints {
		result.Containers[id] = network.EndpointResource{
			Name: ep.name(), EndpointID: ep.ID, MacAddress: ep.MAC, IPv4Address: ep.Address,
		}
	}
	return result, nil
}

// name is the container's.
func (ep *endpointRecord) name() string {
	if len(ep.Names) == 0 {
		return ep.Container
	}
	return ep.Names[0]
}

// view is what clients see of a network.
func (n *bridgeNetwork) view() network.Network {
	v := network.Network{
		Name: n.rec.Name, ID: n.rec.ID, Created: n.rec.Created, Scope: "local", Driver: n.rec.Driver, EnableIPv4: true,
		IPAM:     network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Internal: n.rec.Internal, Attachable: n.rec.Attachable,
		Options: cloneStrings(n.rec.Options), Labels: cloneStrings(n.rec.Labels),
	}
	if n.isBridge() {
		v.IPAM.Config = append(v.IPAM.Config, network.IPAMConfig{
			Subnet: n.rec.Subnet, IPRange: n.rec.Range, Gateway: n.rec.Gateway, AuxAddress: maps.Clone(n.rec.Reserved),
		})
	}
	return v
}

// cloneStrings makes an empty map of none: clients expect {} rather than null.
func cloneStrings(m map[string]string) map[string]string {
	clone := make(map[string]string, len(m))
	maps.Copy(clone, m)
	return clone
}

// Remove removes a network that no container is connected to.
func (s *Service) Remove(ctx context.Context, ref string) error {
	if err := s.Raise(ctx); err != nil {
		return err
	}
	n, err := s.detachNetwork(ref)
	if err != nil {
		return err
	}
	if err := s.destroy(n); err != nil {
		return fmt.Errorf("error while removing network %s: %w", n.rec.Name, err)
	}
	s.publish(n, "destroy", "")
	return nil
}

// detachNetwork takes a network out of the maps, so that nobody connects to it any more.
func (s *Service) detachNetwork(ref string) (*bridgeNetwork, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	if isPredefined(n.rec.Name) {
		return nil, errdefs.ErrPermissionDenied.WithMessage(n.rec.Name + " is a pre-defined network and cannot be removed")
	}
	if len(n.endpoints) > 0 {
		return nil, errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(
			"error while removing network: network %s has active endpoints (%s)", n.rec.Name, strings.Join(n.connected(), ", ")))
	}
	n.gone = true
	delete(s.networks, n.rec.ID)
	return n, nil
}

func (n *bridgeNetwork) connected() []string {
	var all []string
	for _, id := range slices.Sorted(maps.Keys(n.endpoints)) {
		all = append(all, fmt.Sprintf("name:%q id:%q", n.endpoints[id].name(), shortID(id)))
	}
	return all
}

// destroy undoes what makes a network, the document last.
func (s *Service) destroy(n *bridgeNetwork) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := s.removeBridge(n); err != nil {
		return err
	}
	if s.fw != nil && n.isBridge() {
		if err := s.fw.Update(func(r *firewall.Rules) { delete(r.Bridges, n.rec.Bridge) }); err != nil {
			return err
		}
	}
	return removeRecord(s.networkPath(n.rec.ID))
}

func isPredefined(name string) bool {
	return name == network.NetworkBridge || name == network.NetworkHost || name == network.NetworkNone || name == network.NetworkDefault
}

// ensurePredefined makes the networks that are always there. Their ids stay the same.
func (s *Service) ensurePredefined() error {
	for name, driver := range map[string]string{network.NetworkHost: driverHost, network.NetworkNone: driverNull} {
		if _, err := s.find(name); err == nil {
			continue
		}
		rec := networkRecord{Version: recordVersion, ID: randomID(), Name: name, Driver: driver, Created: time.Now()}
		if err := s.keep(rec); err != nil {
			return err
		}
	}
	return s.ensureDefault()
}

// keep writes a network's document and makes it known.
func (s *Service) keep(rec networkRecord) error {
	n, err := s.newNetwork(rec)
	if err != nil {
		return err
	}
	if err := writeRecord(s.networkPath(rec.ID), rec); err != nil {
		return err
	}
	s.networks[rec.ID] = n
	return nil
}

// ensureDefault makes the default network, or brings it in line with the configuration.
func (s *Service) ensureDefault() error {
	old, err := s.find(network.NetworkBridge)
	if s.cfg.Bridge == "none" {
		if err == nil {
			delete(s.networks, old.rec.ID)
			return removeRecord(s.networkPath(old.rec.ID))
		}
		return nil
	}
	rec := networkRecord{Version: recordVersion, ID: randomID(), Name: network.NetworkBridge, Driver: driverBridge, Created: time.Now()}
	var before netip.Prefix
	if err == nil {
		rec, before = old.rec, old.rec.Subnet
	}
	if err := s.configureDefault(&rec, before); err != nil {
		return fmt.Errorf("default network: %w", err)
	}
	if err == nil && reflect.DeepEqual(rec, old.rec) {
		return nil // writing it costs each start of the engine two syncs
	}
	return s.keep(rec)
}

func randomID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func shortID(id string) string { return id[:min(len(id), 12)] }
