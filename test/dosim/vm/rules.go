//go:build linux

package vm

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/test/dosim"
)

// filtering is all that decides what passes between droplets, and between them and the host.
type filtering struct {
	policies []dosim.Policy
	reserved map[netip.Addr]netip.Addr // public address by reserved IP
	cut      map[netip.Addr]time.Time  // until when port 22 of an address answers with resets; kept when it has passed
}

// ruleset writes the filtering as nft reads it. It replaces what was there at once.
//
// While SSH of an address is cut, each packet of it is answered with a reset. When it was cut, the connections of then have been
// forgotten, so that the first packet of each is answered so, too, however late it comes.
func (f *filtering) ruleset(now time.Time) string {
	var b, chains bytes.Buffer
	fmt.Fprint(&b, "add table inet dosim\ndelete table inet dosim\ntable inet dosim {\n chain forward {\n  type filter hook forward priority 0;\n")
	for _, a := range sortedKeys(f.cut) {
		which := "ct state invalid "
		if now.Before(f.cut[a]) {
			which = ""
		}
		fmt.Fprintf(&b, "  ip daddr %s tcp dport 22 %sreject with tcp reset\n  ip saddr %s tcp sport 22 %sreject with tcp reset\n", a, which, a, which)
	}
	fmt.Fprint(&b, "  ct state established,related accept\n")
	for _, p := range f.policies {
		fmt.Fprintf(&b, "  ip daddr %s jump in%d\n  ip saddr %s jump out%d\n", p.Address, p.ID, p.Address, p.ID)
		writeChain(&chains, fmt.Sprintf("in%d", p.ID), "saddr", p.Inbound)
		writeChain(&chains, fmt.Sprintf("out%d", p.ID), "daddr", p.Outbound)
	}
	fmt.Fprintf(&b, " }\n%s", &chains)
	fmt.Fprint(&b, " chain reserved {\n  type nat hook prerouting priority -100;\n")
	for _, r := range sortedKeys(f.reserved) {
		fmt.Fprintf(&b, "  ip daddr %s dnat ip to %s\n", r, f.reserved[r])
	}
	fmt.Fprint(&b, " }\n}\n")
	return b.String()
}

// writeChain writes the rules of a direction: what none allows is dropped. There is no IPv6 on the droplets' network.
func writeChain(b *bytes.Buffer, name, side string, rules []dosim.Rule) {
	fmt.Fprintf(b, " chain %s {\n", name)
	for _, r := range rules {
		match := "meta l4proto " + r.Protocol
		if r.Protocol != "icmp" && !(r.First == 0 && r.Last == 65535) {
			match = fmt.Sprintf("%s dport %d-%d", r.Protocol, r.First, r.Last)
		}
		for _, a := range r.Addresses {
			if a.Addr().Is4() {
				fmt.Fprintf(b, "  ip %s %s %s accept\n", side, a, match)
			}
		}
	}
	fmt.Fprint(b, "  drop\n }\n")
}

func sortedKeys[V any](m map[netip.Addr]V) []netip.Addr {
	var keys []netip.Addr
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, netip.Addr.Compare)
	return keys
}

// apply loads the rules, and has the namespace take what is sent to reserved IPs.
func (n *network) apply(f *filtering) error {
	rules := f.ruleset(time.Now())
	return n.space.do(func() error {
		if err := n.own(f.reserved); err != nil {
			return err
		}
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, bytes.TrimSpace(out))
		}
		return nil
	})
}

// own makes the reserved IPs, and no others, addresses of the namespace. Runs in the namespace.
func (n *network) own(reserved map[netip.Addr]netip.Addr) error {
	lo, err := n.nl.LinkByName("lo")
	if err != nil {
		return err
	}
	have, err := n.nl.AddrList(lo, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	missing := map[netip.Addr]bool{}
	for r := range reserved {
		missing[r] = true
	}
	for _, h := range have {
		a, _ := netip.AddrFromSlice(h.IP.To4())
		if _, wanted := reserved[a]; n.public.Contains(a) && !wanted {
			if err := n.nl.AddrDel(lo, &h); err != nil {
				return err
			}
		}
		delete(missing, a)
	}
	for a := range missing {
		if err := n.nl.AddrAdd(lo, &netlink.Addr{IPNet: ipnet(netip.PrefixFrom(a, 32))}); err != nil {
			return err
		}
	}
	return nil
}

// forgetSSH has conntrack forget the connections to port 22 of an address.
func (n *network) forgetSSH(a netip.Addr) error {
	return n.space.do(func() error {
		filter := &netlink.ConntrackFilter{}
		if err := errors.Join(filter.AddIP(netlink.ConntrackOrigDstIP, a.AsSlice()), filter.AddProtocol(unix.IPPROTO_TCP), filter.AddPort(netlink.ConntrackOrigDstPort, 22)); err != nil {
			return err
		}
		_, err := n.nl.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filter)
		return err
	})
}
