package dosim

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// state is the account: guarded by Server.mu.
type state struct {
	public    netip.Prefix
	ids       int // of droplets, keys, images and actions: the last given
	inUse     map[netip.Addr]bool
	droplets  map[int]*droplet
	actions   []*action
	keys      []*sshKey
	images    []*image
	vpcs      []*vpc
	firewalls []*firewall
	projects  []*project
	reserved  []*reservedIP
	volumes   []*volume
	snapshots []*volumeSnapshot
	tags      []*tag
}

func newState(public netip.Prefix) state {
	now := stamp(time.Now())
	st := state{
		public:   public.Masked(),
		ids:      400000000,
		inUse:    map[netip.Addr]bool{},
		droplets: map[int]*droplet{},
		images:   catalogueImages(),
		projects: []*project{{ID: uuid.NewString(), Name: "first-project", Purpose: "Just trying out DigitalOcean", Environment: "Development", Default: true, Created: now, Updated: now}},
	}
	first := st.public.Addr()
	for _, a := range []netip.Addr{first, first.Next(), lastOf(st.public), lastOf(st.public).Prev()} {
		st.inUse[a] = true // the network, its gateway, the host and the broadcast address
	}
	return st
}

func (st *state) id() int {
	st.ids += 7
	return st.ids
}

// publicAddress takes the lowest free address.
func (st *state) publicAddress() (netip.Addr, error) {
	for a := st.public.Addr(); st.public.Contains(a); a = a.Next() {
		if !st.inUse[a] {
			st.inUse[a] = true
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address is free in %s", st.public)
}

// lastOf is a network's broadcast address.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(a)
}

func netmask(p netip.Prefix) string {
	var a [4]byte
	for i := range p.Bits() {
		a[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(a).String()
}

// stamp writes a time as the API does.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// sorted are the droplets as the API lists them: by their ids, which rise.
func (st *state) sorted() []*droplet {
	list := make([]*droplet, 0, len(st.droplets))
	for _, d := range st.droplets {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b *droplet) int { return a.ID - b.ID })
	return list
}

func hasTag(tags []string, name string) bool {
	return slices.ContainsFunc(tags, func(t string) bool { return strings.EqualFold(t, name) })
}

// filter returns the elements that ok accepts; never nil, so that JSON has a list.
func filter[T any](list []T, ok func(T) bool) []T {
	out := []T{}
	for _, v := range list {
		if ok(v) {
			out = append(out, v)
		}
	}
	return out
}

// wires turns the simulator's things into what the API shows of them.
func wires[T any](list []T, wire func(T) object) []object {
	out := make([]object, 0, len(list))
	for _, v := range list {
		out = append(out, wire(v))
	}
	return out
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func find[T any](list []T, is func(T) bool) (T, error) {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return list[i], nil
	}
	var none T
	return none, notFound()
}
