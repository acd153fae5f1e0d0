package fakeapi

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/digitalocean/godo"
)

type firewallIn struct {
	Name     string              `json:"name"`
	Inbound  []godo.InboundRule  `json:"inbound_rules"`
	Outbound []godo.OutboundRule `json:"outbound_rules"`
	Droplets []int               `json:"droplet_ids"`
	Tags     []string            `json:"tags"`
}

var firewallName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.-]{0,253}[a-zA-Z0-9]$`)

func (c *call) checkFirewall(in *firewallIn) error {
	if err := c.read(in); err != nil {
		return err
	}
	if !firewallName.MatchString(in.Name) {
		return fmt.Errorf("the firewall's name %q", in.Name)
	}
	for _, r := range in.Inbound {
		if r.Sources == nil || len(r.Sources.Addresses)+len(r.Sources.Tags) == 0 {
			return fmt.Errorf("an inbound rule without sources: %+v", r)
		}
		if err := checkPorts(r.Protocol, r.PortRange); err != nil {
			return err
		}
		if err := c.checkEnds(r.Sources.Addresses, r.Sources.Tags); err != nil {
			return err
		}
	}
	for _, r := range in.Outbound {
		if r.Destinations == nil {
			return fmt.Errorf("an outbound rule without destinations")
		}
		if err := checkPorts(r.Protocol, r.PortRange); err != nil {
			return err
		}
	}
	if len(in.Inbound)+len(in.Outbound) > 50 || len(in.Inbound)+len(in.Outbound) == 0 {
		return fmt.Errorf("%d rules", len(in.Inbound)+len(in.Outbound))
	}
	return c.checkEnds(nil, in.Tags)
}

func checkPorts(protocol, ports string) error {
	if protocol == "icmp" && ports == "" || (protocol == "tcp" || protocol == "udp") && ports == "all" {
		return nil
	}
	if protocol != "tcp" && protocol != "udp" {
		return fmt.Errorf("the protocol %q with the ports %q", protocol, ports)
	}
	from, to, isRange := strings.Cut(ports, "-")
	if !isRange {
		to = from
	}
	a, err1 := strconv.Atoi(from)
	b, err2 := strconv.Atoi(to)
	if err1 != nil || err2 != nil || a < 1 || b > 65535 || b < a || isRange && a == b {
		return fmt.Errorf("the ports %q", ports)
	}
	return nil
}

func (c *call) checkEnds(addresses, tags []string) error {
	for _, a := range addresses {
		if _, err := netip.ParsePrefix(a); err != nil {
			if _, err := netip.ParseAddr(a); err != nil {
				return fmt.Errorf("the address %q", a)
			}
		}
	}
	for _, t := range tags {
		if !c.tags[t] {
			return fmt.Errorf("the tag %q does not exist", t)
		}
	}
	return nil
}

func createFirewall(c *call) answer {
	var in firewallIn
	if err := c.checkFirewall(&in); err != nil {
		return c.problem("%v", err)
	}
	for _, f := range c.firewalls {
		if f.Name == in.Name {
			return answer{http.StatusConflict, failure("duplicate name")}
		}
	}
	f := &godo.Firewall{ID: c.uuid()}
	in.fill(f)
	c.firewalls[f.ID] = f
	return answer{http.StatusAccepted, map[string]any{"firewall": f}}
}

func (in *firewallIn) fill(f *godo.Firewall) {
	f.Name, f.Status, f.InboundRules, f.OutboundRules = in.Name, "succeeded", in.Inbound, in.Outbound
	f.Tags, f.DropletIDs = in.Tags, in.Droplets
}

func getFirewall(c *call) answer {
	if f := c.firewalls[c.args[0]]; f != nil {
		return ok(map[string]any{"firewall": f})
	}
	return notFound()
}

func updateFirewall(c *call) answer {
	f := c.firewalls[c.args[0]]
	if f == nil {
		return notFound()
	}
	var in firewallIn
	if err := c.checkFirewall(&in); err != nil {
		return c.problem("%v", err)
	}
	in.fill(f)
	return ok(map[string]any{"firewall": f})
}

// Admits tells whether some firewall lets an address reach a droplet's port; without any firewall everybody is let in.
func (s *Server) Admits(droplet int, protocol string, port int, from string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, guarded := s.droplets[droplet], false
	if d == nil {
		return false
	}
	for _, f := range s.firewalls {
		if !slices.ContainsFunc(f.Tags, func(t string) bool { return slices.Contains(d.Tags, t) }) {
			continue
		}
		guarded = true
		for _, r := range f.InboundRules {
			if r.Protocol == protocol && inRange(port, r.PortRange) && contains(r.Sources.Addresses, from) {
				return true
			}
		}
	}
	return !guarded
}

func inRange(port int, ports string) bool {
	from, to, ok := strings.Cut(ports, "-")
	if !ok {
		to = from
	}
	a, _ := strconv.Atoi(from)
	b, _ := strconv.Atoi(to)
	return port >= a && port <= b
}

func contains(networks []string, from string) bool {
	a := netip.MustParseAddr(from)
	return slices.ContainsFunc(networks, func(n string) bool {
		p, err := netip.ParsePrefix(n)
		return err == nil && p.Contains(a)
	})
}
