// Package ipam gives out addresses of one subnet, and subnets of the default pools. It only counts: keeping what was given
// out across restarts is the caller's part.
package ipam

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
)

// Errors of a pool.
var (
	ErrInUse      = errors.New("address already in use")
	ErrOutOfRange = errors.New("requested address is out of range")
	ErrExhausted  = errors.New("no available addresses on this pool")
	ErrNoSubnet   = errors.New("all predefined address pools have been fully subnetted")
)

// Pool gives out the addresses of an IPv4 subnet. It is not safe for concurrent use. Its cost grows with the addresses in
// use, never with the size of the subnet.
type Pool struct {
	subnet netip.Prefix
	first  uint32 // of the range that Next takes from, inclusive
	last   uint32
	cursor uint32 // what was given out last
	used   map[uint32]struct{}
}

// NewPool makes a pool of subnet. Next takes from within, a part of subnet, or from all of it if within is not valid. The
// network's and the broadcast address are never given out by Next.
func NewPool(subnet, within netip.Prefix) *Pool {
	subnet = subnet.Masked()
	if !within.IsValid() {
		within = subnet
	}
	low, high := bounds(subnet)
	first, last := bounds(within.Masked())
	if subnet.Bits() < 31 { // RFC 3021: a /31 has no network and broadcast address
		first, last = max(first, low+1), min(last, high-1)
	}
	return &Pool{subnet: subnet, first: first, last: last, cursor: last, used: map[uint32]struct{}{}}
}

func bounds(p netip.Prefix) (first, last uint32) {
	first = toUint(p.Addr())
	return first, first | uint32(uint64(1)<<(32-p.Bits())-1)
}

// Reserve takes one address. It may lie outside of the range that Next takes from.
func (p *Pool) Reserve(a netip.Addr) error {
	if !a.Is4() || !p.subnet.Contains(a) {
		return ErrOutOfRange
	}
	n := toUint(a)
	if _, ok := p.used[n]; ok {
		return ErrInUse
	}
	p.used[n] = struct{}{}
	return nil
}

// Next takes the address after the one given out last, so that an address is not used again soon after its release.
func (p *Pool) Next() (netip.Addr, error) {
	if p.first > p.last {
		return netip.Addr{}, ErrExhausted
	}
	size := uint64(p.last-p.first) + 1
	n := p.cursor
	for range min(size, uint64(len(p.used))+1) {
		n = p.after(n)
		if _, ok := p.used[n]; !ok {
			p.used[n] = struct{}{}
			p.cursor = n
			return fromUint(n), nil
		}
	}
	return netip.Addr{}, ErrExhausted
}

func (p *Pool) after(n uint32) uint32 {
	if n < p.first || n >= p.last {
		return p.first
	}
	return n + 1
}

// Seek makes Next begin after a.
func (p *Pool) Seek(a netip.Addr) {
	if a.Is4() && p.subnet.Contains(a) {
		p.cursor = toUint(a)
	}
}

// Release gives an address back.
func (p *Pool) Release(a netip.Addr) {
	if a.Is4() {
		delete(p.used, toUint(a))
	}
}

// Gateway is the address that a bridge takes when none is asked for: the first that Next would give.
func (p *Pool) Gateway() (netip.Addr, error) {
	if p.first > p.last {
		return netip.Addr{}, ErrExhausted
	}
	return fromUint(p.first), nil
}

// Range is where subnets are taken from: all prefixes of length Size in Base, an IPv4 one that is not longer.
type Range struct {
	Base netip.Prefix
	Size int
}

// dockerRanges are Docker's default pools: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 to 192.168.240.0/20.
func dockerRanges() (list []Range) {
	for i := range byte(15) {
		list = append(list, Range{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 17 + i, 0, 0}), 16), 16})
	}
	return append(list, Range{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 0, 0}), 16), 20})
}

// PickSubnet returns the first subnet of the ranges, Docker's when there are none, that overlaps with none of taken.
func PickSubnet(ranges []Range, taken []netip.Prefix) (netip.Prefix, error) {
	if len(ranges) == 0 {
		ranges = dockerRanges()
	}
	for _, r := range ranges {
		if p, ok := r.pick(taken); ok {
			return p, nil
		}
	}
	return netip.Prefix{}, ErrNoSubnet
}

// pick goes past whatever is in the way in one step, so that its cost depends on what is taken, not on the range's size.
func (r Range) pick(taken []netip.Prefix) (netip.Prefix, bool) {
	next, end := uint64(toUint(r.Base.Masked().Addr())), uint64(toUint(r.Base.Masked().Addr()))+size(r.Base.Bits())
	for next < end {
		p := netip.PrefixFrom(fromUint(uint32(next)), r.Size)
		i := slices.IndexFunc(taken, func(t netip.Prefix) bool { return t.Addr().Is4() && t.Overlaps(p) })
		if i < 0 {
			return p, true
		}
		after := uint64(toUint(taken[i].Masked().Addr())) + size(taken[i].Bits())
		next = max(next+size(r.Size), after)
	}
	return netip.Prefix{}, false
}

// size is how many addresses a prefix of this length has.
func size(bits int) uint64 { return 1 << (32 - bits) }

// Overlaps reports whether p shares an address with one of taken.
func Overlaps(p netip.Prefix, taken []netip.Prefix) bool {
	for _, t := range taken {
		if t.Overlaps(p) {
			return true
		}
	}
	return false
}

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func fromUint(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
