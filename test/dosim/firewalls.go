package dosim

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

var firewallRoutes = []route{
	{"GET", "/v2/firewalls", "firewall:read", 200, (*Server).listFirewalls},
	{"POST", "/v2/firewalls", "firewall:create", 202, (*Server).createFirewall},
	{"GET", "/v2/firewalls/{firewall}", "firewall:read", 200, (*Server).getFirewall},
	{"PUT", "/v2/firewalls/{firewall}", "firewall:update", 200, (*Server).updateFirewall},
	{"DELETE", "/v2/firewalls/{firewall}", "firewall:delete", 204, (*Server).deleteFirewall},
	{"POST", "/v2/firewalls/{firewall}/droplets", "firewall:update", 204, (*Server).changeFirewall},
	{"DELETE", "/v2/firewalls/{firewall}/droplets", "firewall:update", 204, (*Server).changeFirewall},
	{"POST", "/v2/firewalls/{firewall}/tags", "firewall:update", 204, (*Server).changeFirewall},
	{"DELETE", "/v2/firewalls/{firewall}/tags", "firewall:update", 204, (*Server).changeFirewall},
	{"POST", "/v2/firewalls/{firewall}/rules", "firewall:update", 204, (*Server).changeFirewall},
	{"DELETE", "/v2/firewalls/{firewall}/rules", "firewall:update", 204, (*Server).changeFirewall},
}

// firewall is a set of rules for some droplets.
type firewall struct {
	firewallSpec
	ID, Created string
}

// firewallSpec is what a request may set.
type firewallSpec struct {
	Name       string    `json:"name"`
	Inbound    []inRule  `json:"inbound_rules"`
	Outbound   []outRule `json:"outbound_rules"`
	DropletIDs []int     `json:"droplet_ids"`
	Tags       []string  `json:"tags"`
}

type inRule struct {
	Protocol string `json:"protocol"`
	Ports    string `json:"ports"`
	Sources  target `json:"sources"`
}

type outRule struct {
	Protocol     string `json:"protocol"`
	Ports        string `json:"ports"`
	Destinations target `json:"destinations"`
}

// target is where traffic comes from or goes to.
type target struct {
	Addresses     []string `json:"addresses,omitempty"`
	Tags          []string `json:"tags,omitempty"`
	DropletIDs    []int    `json:"droplet_ids,omitempty"`
	LoadBalancers []string `json:"load_balancer_uids,omitempty"`
	Kubernetes    []string `json:"kubernetes_ids,omitempty"`
}

var (
	firewallName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.-]*$`)
	portRange    = regexp.MustCompile(`^([0-9]{1,5})(?:-([0-9]{1,5}))?$`)
)

// ports reads "22", "8000-9000", or "0", "all" and "" for all.
func ports(s string) (first, last int, ok bool) {
	if s == "" || s == "0" || s == "all" {
		return 0, 65535, true
	}
	m := portRange.FindStringSubmatch(s)
	if m == nil {
		return 0, 0, false
	}
	first, _ = strconv.Atoi(m[1])
	last = first
	if m[2] != "" {
		last, _ = strconv.Atoi(m[2])
	}
	return first, last, first >= 1 && first <= last && last <= 65535
}

// prefix reads an address or a CIDR.
func prefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

func (s *Server) checkRule(protocol, portsText string, t target) error {
	if !slices.Contains([]string{"tcp", "udp", "icmp"}, protocol) {
		return invalid("invalid protocol %q: must be tcp, udp or icmp", protocol)
	}
	if _, _, ok := ports(portsText); !ok || protocol != "icmp" && portsText == "" {
		return invalid("invalid ports %q", portsText)
	}
	if len(t.Addresses)+len(t.Tags)+len(t.DropletIDs)+len(t.LoadBalancers)+len(t.Kubernetes) == 0 {
		return invalid("rule must have at least one source or destination")
	}
	for _, a := range t.Addresses {
		if _, err := prefix(a); err != nil {
			return invalid("invalid address %q", a)
		}
	}
	return s.checkTargets(t.DropletIDs, t.Tags)
}

func (s *Server) checkTargets(droplets []int, tags []string) error {
	for _, id := range droplets {
		if s.droplets[id] == nil {
			return invalid("droplet %d does not exist", id)
		}
	}
	for _, name := range tags {
		if _, err := s.tag(name); err != nil {
			return invalid("tag %q does not exist", name)
		}
	}
	return nil
}

func (s *Server) checkFirewall(f *firewallSpec, self *firewall) error {
	if !firewallName.MatchString(f.Name) || len(f.Name) > 255 {
		return invalid("name has invalid characters")
	}
	for _, o := range s.firewalls {
		if o != self && o.Name == f.Name {
			return &apiError{409, "conflict", "duplicate name"}
		}
	}
	if len(f.Inbound)+len(f.Outbound) == 0 {
		return invalid("must have at least one rule")
	}
	if err := s.checkRules(f); err != nil {
		return err
	}
	return s.checkTargets(f.DropletIDs, f.Tags)
}

func (s *Server) checkRules(f *firewallSpec) error {
	for _, r := range f.Inbound {
		if err := s.checkRule(r.Protocol, r.Ports, r.Sources); err != nil {
			return err
		}
	}
	for _, r := range f.Outbound {
		if err := s.checkRule(r.Protocol, r.Ports, r.Destinations); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) wireFirewall(f *firewall) object {
	return object{"id": f.ID, "name": f.Name, "status": "succeeded", "created_at": f.Created, "pending_changes": []object{},
		"droplet_ids": orEmpty(f.DropletIDs), "tags": orEmpty(f.Tags), "inbound_rules": orEmpty(f.Inbound), "outbound_rules": orEmpty(f.Outbound)}
}

func (f *firewall) covers(d *droplet) bool {
	return slices.Contains(f.DropletIDs, d.ID) || slices.ContainsFunc(f.Tags, func(t string) bool { return hasTag(d.Tags, t) })
}

func (s *Server) firewall(r *request) (*firewall, error) {
	return find(s.firewalls, func(f *firewall) bool { return f.ID == r.PathValue("firewall") })
}

func (s *Server) listFirewalls(r *request) (any, error) {
	return page(s, r, "firewalls", wires(s.firewalls, s.wireFirewall))
}

func (s *Server) getFirewall(r *request) (any, error) {
	f, err := s.firewall(r)
	if err != nil {
		return nil, err
	}
	return object{"firewall": s.wireFirewall(f)}, nil
}

func (s *Server) createFirewall(r *request) (any, error) {
	f := &firewall{ID: uuid.NewString(), Created: stamp(time.Now())}
	if err := r.decode(&f.firewallSpec); err != nil {
		return nil, err
	}
	if err := s.checkFirewall(&f.firewallSpec, nil); err != nil {
		return nil, err
	}
	s.firewalls = append(s.firewalls, f)
	return object{"firewall": s.wireFirewall(f)}, nil
}

func (s *Server) updateFirewall(r *request) (any, error) {
	f, err := s.firewall(r)
	if err != nil {
		return nil, err
	}
	var in firewallSpec
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if err := s.checkFirewall(&in, f); err != nil {
		return nil, err
	}
	f.firewallSpec = in
	return object{"firewall": s.wireFirewall(f)}, nil
}

func (s *Server) deleteFirewall(r *request) (any, error) {
	f, err := s.firewall(r)
	s.firewalls = filter(s.firewalls, func(o *firewall) bool { return o != f })
	return nil, err
}

// changeFirewall adds or removes droplets, tags or rules.
func (s *Server) changeFirewall(r *request) (any, error) {
	f, err := s.firewall(r)
	if err != nil {
		return nil, err
	}
	var in firewallSpec
	if err := json.Unmarshal(r.body, &in); err != nil {
		return nil, &apiError{400, "bad_request", "error parsing request: " + err.Error()}
	}
	if r.Method == "DELETE" {
		f.DropletIDs, f.Tags = without(f.DropletIDs, in.DropletIDs), without(f.Tags, in.Tags)
		f.Inbound, f.Outbound = without(f.Inbound, in.Inbound), without(f.Outbound, in.Outbound)
		return nil, nil
	}
	if err := s.checkRules(&in); err != nil {
		return nil, err
	}
	if err := s.checkTargets(in.DropletIDs, in.Tags); err != nil {
		return nil, err
	}
	f.DropletIDs, f.Tags = append(without(f.DropletIDs, in.DropletIDs), in.DropletIDs...), append(without(f.Tags, in.Tags), in.Tags...)
	f.Inbound, f.Outbound = append(f.Inbound, in.Inbound...), append(f.Outbound, in.Outbound...)
	return nil, nil
}

func without[T any](list, remove []T) []T {
	return filter(list, func(v T) bool {
		return !slices.ContainsFunc(remove, func(o T) bool { return reflect.DeepEqual(v, o) })
	})
}

// protect tells the machines what the firewalls let through, if that has changed.
func (s *Server) protect() error {
	if s.opt.Machines == nil {
		return nil
	}
	s.rules.Lock()
	defer s.rules.Unlock()
	s.mu.Lock()
	p, reserved := s.policies(), map[netip.Addr]netip.Addr{}
	for _, ip := range s.state.reserved {
		if ip.Droplet != nil {
			reserved[ip.IP] = ip.Droplet.Public
		}
	}
	s.mu.Unlock()
	b, err := json.Marshal([]any{p, reserved})
	if err != nil || string(b) == s.ruled {
		return err
	}
	if err := s.opt.Machines.Protect(p, reserved); err != nil {
		return err
	}
	s.ruled = string(b)
	return nil
}

// policies are those of the droplets that a firewall covers. Several firewalls add up.
func (s *Server) policies() []Policy {
	var list []Policy
	for _, d := range s.sorted() {
		p := Policy{ID: d.ID, Address: d.Public}
		covered := false
		for _, f := range s.firewalls {
			if !f.covers(d) {
				continue
			}
			covered = true
			for _, r := range f.Inbound {
				p.Inbound = append(p.Inbound, s.rule(r.Protocol, r.Ports, r.Sources))
			}
			for _, r := range f.Outbound {
				p.Outbound = append(p.Outbound, s.rule(r.Protocol, r.Ports, r.Destinations))
			}
		}
		if covered && d.Public.IsValid() {
			list = append(list, p)
		}
	}
	return list
}

// rule resolves droplets and tags to addresses.
func (s *Server) rule(protocol, text string, t target) Rule {
	r := Rule{Protocol: strings.ToLower(protocol)}
	r.First, r.Last, _ = ports(text)
	for _, a := range t.Addresses {
		if p, err := prefix(a); err == nil {
			r.Addresses = append(r.Addresses, p)
		}
	}
	for _, d := range s.sorted() {
		named := slices.Contains(t.DropletIDs, d.ID) || slices.ContainsFunc(t.Tags, func(n string) bool { return hasTag(d.Tags, n) })
		if named && d.Public.IsValid() {
			r.Addresses = append(r.Addresses, netip.PrefixFrom(d.Public, 32))
		}
	}
	return r
}
