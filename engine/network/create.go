package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/getberth/berth/engine/network/firewall"
	"github.com/getberth/berth/engine/network/ipam"
)

// Create makes a bridge network.
func (s *Service) Create(ctx context.Context, req network.CreateRequest) (network.CreateResponse, error) {
	if err := s.Raise(ctx); err != nil {
		return network.CreateResponse{}, err
	}
	if err := checkCreate(req); err != nil {
		return network.CreateResponse{}, err
	}
	s.creating.Lock()
	defer s.creating.Unlock()
	n, err := s.plan(req)
	if err != nil {
		return network.CreateResponse{}, err
	}
	if err := s.make(n); err != nil {
		return network.CreateResponse{}, fmt.Errorf("creating network %s: %w", req.Name, err)
	}
	s.mu.Lock()
	s.networks[n.rec.ID] = n
	s.mu.Unlock()
	s.publish(n, "create", "")
	return network.CreateResponse{ID: n.rec.ID}, nil
}

// make writes the document, then makes what it speaks of. Nothing is left if that fails.
func (s *Service) make(n *bridgeNetwork) error {
	if err := writeRecord(s.networkPath(n.rec.ID), n.rec); err != nil {
		return err
	}
	err := s.ensureBridge(n)
	if err == nil && s.fw != nil {
		err = s.fw.Update(func(r *firewall.Rules) {
			r.Bridges[n.rec.Bridge] = n.rules()
			r.NoLoopback = s.noLoopback.Load()
		})
	}
	if err != nil {
		return errors.Join(err, s.destroy(n))
	}
	return nil
}

// plan decides on all that a network's document says.
func (s *Service) plan(req network.CreateRequest) (*bridgeNetwork, error) {
	id := randomID()
	rec := networkRecord{
		Version: recordVersion, ID: id, Name: req.Name, Driver: driverBridge, Created: time.Now(),
		Internal: req.Internal, Attachable: req.Attachable, Options: req.Options, Labels: req.Labels,
		Bridge: "br-" + shortID(id),
	}
	if name := req.Options[optBridgeName]; name != "" {
		rec.Bridge = name
	}
	if err := s.checkFree(rec); err != nil {
		return nil, err
	}
	if _, err := s.link.LinkByName(rec.Bridge); err == nil {
		rec.Adopted = true
	}
	if err := s.planAddresses(&rec, req.IPAM); err != nil {
		return nil, err
	}
	n, err := s.newNetwork(rec)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid network config: " + err.Error())
	}
	return n, nil
}

func (s *Service) checkFree(rec networkRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.networks {
		if n.rec.Name == rec.Name {
			return errdefs.ErrConflict.WithMessage(fmt.Sprintf("network with name %s already exists", rec.Name))
		}
		if n.rec.Bridge == rec.Bridge {
			return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(
				"cannot create network %s (%s): conflicts with network %s (%s): networks have same bridge name",
				rec.ID, rec.Bridge, n.rec.ID, n.rec.Bridge))
		}
	}
	return nil
}

func (s *Service) planAddresses(rec *networkRecord, want *network.IPAM) error {
	taken, err := s.takenSubnets("")
	if err != nil {
		return err
	}
	var asked network.IPAMConfig
	if want != nil && len(want.Config) > 0 {
		asked = want.Config[0]
	}
	if !asked.Subnet.IsValid() {
		rec.Subnet, err = ipam.PickSubnet(s.cfg.Pools, taken)
		if err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
	} else if rec.Subnet = asked.Subnet; s.overlapsNetwork(rec.Subnet) {
		// Routes of the host are its owner's business here.
		return errdefs.ErrPermissionDenied.WithMessage("invalid pool request: Pool overlaps with other one on this address space")
	}
	rec.Range, rec.Gateway, rec.Reserved = asked.IPRange, asked.Gateway, asked.AuxAddress
	if !rec.Gateway.IsValid() {
		rec.Gateway, err = firstFree(rec)
	}
	return err
}

// firstFree is the gateway when none was asked for: the first address that is not reserved.
func firstFree(rec *networkRecord) (netip.Addr, error) {
	pool := ipam.NewPool(rec.Subnet, rec.Range)
	for name, a := range rec.Reserved {
		if err := pool.Reserve(a); err != nil {
			return a, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid auxiliary address %s: %v", name, err))
		}
	}
	a, err := pool.Next()
	if err != nil {
		return a, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	return a, nil
}

func (s *Service) overlapsNetwork(p netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.networks {
		if n.isBridge() && n.rec.Subnet.Overlaps(p) {
			return true
		}
	}
	return false
}

// checkCreate refuses what is wrong or not supported, each by its name.
func checkCreate(req network.CreateRequest) error {
	if isPredefined(req.Name) {
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("operation is not permitted on predefined %s network ", req.Name))
	}
	if err := checkName(req.Name); err != nil {
		return err
	}
	switch req.Driver {
	case "", "default", driverBridge:
	case driverHost, driverNull:
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("only one instance of %q network is allowed", req.Driver))
	default:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("plugin %q not found: the network driver %q is not supported", req.Driver, req.Driver))
	}
	refused := map[string]bool{
		"scope " + req.Scope: req.Scope != "" && req.Scope != "local",
		"ingress":            req.Ingress,
		"config-only":        req.ConfigOnly,
		"config-from":        req.ConfigFrom != nil && req.ConfigFrom.Network != "",
		"IPv6":               req.EnableIPv6 != nil && *req.EnableIPv6,
		"no IPv4":            req.EnableIPv4 != nil && !*req.EnableIPv4,
	}
	for what, asked := range refused {
		if asked {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("network %s: %s is not supported", req.Name, what))
		}
	}
	if _, err := parseOptions(req.Options); err != nil {
		return err
	}
	return checkIPAM(req.IPAM)
}

func checkName(name string) error {
	const maxName = 255
	bad := func(r rune) bool { return unicode.IsControl(r) || r == '/' || r == unicode.ReplacementChar }
	switch {
	case strings.TrimSpace(name) == "":
		return errdefs.ErrInvalidArgument.WithMessage("invalid name: name is empty")
	case len(name) > maxName || name != strings.TrimSpace(name) || strings.ContainsFunc(name, bad):
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid network name %q", name))
	}
	return nil
}

func checkIPAM(want *network.IPAM) error {
	if want == nil {
		return nil
	}
	if want.Driver != "" && want.Driver != "default" {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid ipam driver: %q", want.Driver))
	}
	for name := range want.Options {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("ipam option %q is not supported", name))
	}
	if len(want.Config) > 1 {
		return errdefs.ErrInvalidArgument.WithMessage("bridge driver doesn't support multiple subnets")
	}
	for _, c := range want.Config {
		if errs := checkSubnet(c); len(errs) > 0 {
			return errdefs.ErrInvalidArgument.WithMessage("invalid network config:\n" + errors.Join(errs...).Error())
		}
	}
	return nil
}

func checkSubnet(c network.IPAMConfig) (errs []error) {
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	subnet := c.Subnet
	if !subnet.IsValid() {
		if c.IPRange.IsValid() || c.Gateway.IsValid() || len(c.AuxAddress) > 0 {
			bad("a subnet is needed for an ip-range, a gateway or auxiliary addresses")
		}
		return errs
	}
	if !subnet.Addr().Is4() {
		return append(errs, fmt.Errorf("invalid subnet %s: IPv6 is not supported", subnet))
	}
	if subnet != subnet.Masked() {
		bad("invalid subnet %s: it should be %s", subnet, subnet.Masked())
	}
	const smallest = 30 // a gateway and one container
	if subnet.Bits() > smallest || subnet.Bits() == 0 {
		bad("invalid subnet %s: it must be between a /1 and a /%d", subnet, smallest)
	}
	if r := c.IPRange; r.IsValid() {
		switch {
		case !r.Addr().Is4():
			bad("invalid ip-range %s: parent subnet is an IPv4 block", r)
		case r.Bits() < subnet.Bits():
			bad("invalid ip-range %s: CIDR block is bigger than its parent subnet %s", r, subnet)
		case r != r.Masked():
			bad("invalid ip-range %s: it should be %s", r, r.Masked())
		case !subnet.Overlaps(r):
			bad("invalid ip-range %s: parent subnet %s doesn't contain ip-range", r, subnet)
		}
	}
	if c.Gateway.IsValid() && !subnet.Contains(c.Gateway) {
		bad("invalid gateway %s: parent subnet %s doesn't contain this address", c.Gateway, subnet)
	}
	for _, name := range sortedKeys(c.AuxAddress) {
		if a := c.AuxAddress[name]; !subnet.Contains(a) {
			bad("invalid auxiliary address %s: parent subnet %s doesn't contain this address", name, subnet)
		}
	}
	return errs
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
