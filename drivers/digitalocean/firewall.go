package digitalocean

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/digitalocean/godo"

	"github.com/getberth/berth/drivers"
)

// enginePort is where the engine listens, with TLS.
const enginePort = 2376

var everywhere = []string{"0.0.0.0/0", "::/0"}

// guarded tells a droplet that has a firewall.
func (s *state) guarded() bool { return s.Expose != exposeOpen }

// guards says what the firewall keeps others from.
func (s *state) guards() string {
	if s.Expose == exposeSSH {
		return "SSH"
	}
	return "SSH and the engine"
}

// makeFirewall makes the firewall, before there is a droplet for it, or sees that it is as it should be.
func (j *job) makeFirewall(ctx context.Context, _ *wanted) error {
	if !j.s.guarded() {
		return j.deleteFirewall(ctx)
	}
	if len(j.s.AllowFrom) > 0 {
		j.s.Admitted = j.s.AllowFrom
	}
	if j.s.Firewall != "" {
		err := j.updateFirewall(ctx)
		if !isGone(err) {
			return wrap("changing the firewall", err)
		}
		j.s.Firewall = ""
	}
	find := func() (bool, error) {
		f, err := j.findFirewall(ctx)
		if f != nil {
			j.s.Firewall = f.ID
		}
		return f != nil, err
	}
	err := j.make(ctx, "firewall", find, func() error {
		f, _, err := j.api.Firewalls.Create(ctx, j.rules())
		if err == nil && f != nil {
			j.s.Firewall = f.ID
		}
		return err
	})
	if err != nil {
		return err
	}
	return j.save()
}

// updateFirewall writes the rules; what is there already is replaced by what should be, so that it can be repeated.
func (j *job) updateFirewall(ctx context.Context) error {
	_, _, err := j.api.Firewalls.Update(ctx, j.s.Firewall, j.rules())
	if unsure(err) {
		_, _, err = j.api.Firewalls.Update(ctx, j.s.Firewall, j.rules())
	}
	return err
}

// findFirewall finds the machine's firewall by its name; nil if there is none.
func (j *job) findFirewall(ctx context.Context) (*godo.Firewall, error) {
	all, err := pages(ctx, j.api.Firewalls.List)
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		if f.Name == j.s.name() {
			return &f, nil
		}
	}
	return nil, nil
}

// rules let whoever is admitted reach SSH and the engine, if it listens on a port, and everybody whatever else the machine serves. Until it is known who is
// to be admitted, SSH, which takes one key only, is open and the engine is closed. What machines of a swarm tell each other, which
// is not always encrypted, stays among the droplets of the store.
func (j *job) rules() *godo.FirewallRequest {
	ssh := j.s.SSHPort
	r := &godo.FirewallRequest{Name: j.s.name(), Tags: []string{j.s.tag()}, DropletIDs: []int{}}
	in := func(protocol, ports string, from *godo.Sources) {
		r.InboundRules = append(r.InboundRules, godo.InboundRule{Protocol: protocol, PortRange: ports, Sources: from})
	}
	if len(j.s.Admitted) > 0 {
		in("tcp", strconv.Itoa(ssh), &godo.Sources{Addresses: j.s.Admitted})
		if j.s.Expose != exposeSSH {
			in("tcp", strconv.Itoa(enginePort), &godo.Sources{Addresses: j.s.Admitted})
		}
	} else {
		in("tcp", strconv.Itoa(ssh), &godo.Sources{Addresses: everywhere})
	}
	all := &godo.Sources{Addresses: everywhere}
	for _, ports := range without(ssh, enginePort, swarmPort, gossipPort) {
		in("tcp", ports, all)
	}
	for _, ports := range without(vxlanPort, gossipPort) {
		in("udp", ports, all)
	}
	in("icmp", "", all)
	siblings := &godo.Sources{Tags: []string{j.s.storeTag()}}
	in("tcp", strconv.Itoa(swarmPort), siblings)
	in("tcp", strconv.Itoa(gossipPort), siblings)
	in("udp", strconv.Itoa(gossipPort), siblings)
	in("udp", strconv.Itoa(vxlanPort), siblings)
	anywhere := &godo.Destinations{Addresses: everywhere}
	r.OutboundRules = []godo.OutboundRule{
		{Protocol: "tcp", PortRange: "all", Destinations: anywhere},
		{Protocol: "udp", PortRange: "all", Destinations: anywhere},
		{Protocol: "icmp", Destinations: anywhere},
	}
	return r
}

// Ports of Docker's swarm mode.
const (
	swarmPort  = 2377
	gossipPort = 7946
	vxlanPort  = 4789
)

// without are the ranges of all ports but those given.
func without(ports ...int) (ranges []string) {
	slices.Sort(ports)
	next := 1
	for _, p := range slices.Compact(append(ports, 65536)) {
		switch {
		case p-1 == next:
			ranges = append(ranges, strconv.Itoa(next))
		case p-1 > next:
			ranges = append(ranges, fmt.Sprintf("%d-%d", next, p-1))
		}
		next = p + 1
	}
	return ranges
}

// Greeted narrows the firewall to the address from which this computer reaches the droplet.
func (d *Driver) Greeted(ctx context.Context, h *drivers.Host, from netip.Addr) error {
	s, err := mustLoad(h)
	if err != nil || !s.guarded() || len(s.AllowFrom) > 0 {
		return err
	}
	from = from.Unmap().WithZone("")
	admitted := []string{netip.PrefixFrom(from, from.BitLen()).String()}
	if slices.Equal(admitted, s.Admitted) {
		return nil
	}
	j, err := d.job(ctx, h, s, nil)
	if err != nil {
		return err
	}
	j.s.Admitted = admitted
	j.logf("the firewall admits %s to %s", from, j.s.guards())
	return j.refit(ctx)
}

// Unreached opens SSH to all, as this computer's address may have changed.
func (d *Driver) Unreached(ctx context.Context, h *drivers.Host) error {
	s, err := mustLoad(h)
	if err != nil || !s.guarded() || len(s.AllowFrom) > 0 || len(s.Admitted) == 0 {
		return err
	}
	j, err := d.job(ctx, h, s, nil)
	if err != nil {
		return err
	}
	j.logf("the firewall admitted %s: SSH is opened until this computer's address is known", s.Admitted[0])
	j.s.Admitted = nil
	return j.refit(ctx)
}

func (j *job) refit(ctx context.Context) error {
	if j.s.Firewall == "" {
		return nil
	}
	if err := j.updateFirewall(ctx); err != nil {
		return wrap("changing the firewall", err)
	}
	return j.save()
}
