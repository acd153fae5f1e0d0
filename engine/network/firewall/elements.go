package firewall

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"
)

// Names of the sets and maps. Keys and values are in the kernel's form: each part padded to four bytes, numbers big-endian.
const (
	setBridges    = "bridges"     // ifname
	setInternal   = "internal"    // ifname
	setSame       = "same"        // ifname . ifname: twice the same bridge, for those whose containers reach each other
	setHairpin    = "hairpin"     // ifname . ipv4_addr intervals: a bridge and its subnet
	setMasquerade = "masquerade"  // nf_proto . ipv4_addr intervals
	setGuarded    = "guarded"     // inet_service
	mapAny        = "publish"     // inet_proto . inet_service : ipv4_addr . inet_service
	mapOne        = "publish_one" // inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service
)

// chunk bounds the elements of one message: its attributes are at most 64 KiB long, and an element takes about 100 bytes.
const chunk = 400

// elements are those of each set.
type elements map[string][]nftables.SetElement

func sets(t *nftables.Table) []*nftables.Set {
	var (
		ifnames = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)
		source  = nftables.MustConcatSetType(nftables.TypeNFProto, nftables.TypeIPAddr)
		subnet  = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr)
		target  = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
		anyKey  = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
		oneKey  = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeIPAddr, nftables.TypeInetService)
	)
	all := []*nftables.Set{
		{Name: setBridges, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian},
		{Name: setInternal, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian},
		{Name: setSame, KeyType: ifnames, Concatenation: true},
		{Name: setHairpin, KeyType: subnet, Concatenation: true, Interval: true},
		{Name: setMasquerade, KeyType: source, Concatenation: true, Interval: true},
		{Name: setGuarded, KeyType: nftables.TypeInetService},
		{Name: mapAny, KeyType: anyKey, DataType: target, IsMap: true, Concatenation: true},
		{Name: mapOne, KeyType: oneKey, DataType: target, IsMap: true, Concatenation: true},
	}
	for i, s := range all {
		s.Table = t
		s.ID = uint32(i + 1) // sets are told apart by it within a transaction
	}
	return all
}

// diff tells what to add to the sets, and what to remove from them, to get from one state to another. What changed is in
// both.
func diff(have, want Rules) (added, removed elements) {
	added, removed = elements{}, elements{}
	diffMap(have.Bridges, want.Bridges, added.bridge, removed.bridge)
	diffMap(have.Ports, want.Ports, added.port, removed.port)
	diffMap(have.Guarded, want.Guarded, added.guard, removed.guard)
	return added, removed
}

func diffMap[K, V comparable](have, want map[K]V, added, removed func(K, V)) {
	for k, v := range have {
		if w, ok := want[k]; !ok || w != v {
			removed(k, v)
		}
	}
	for k, v := range want {
		if h, ok := have[k]; !ok || h != v {
			added(k, v)
		}
	}
}

func (e elements) add(set string, key []byte) { e[set] = append(e[set], nftables.SetElement{Key: key}) }

func (e elements) bridge(name string, b Bridge) {
	key := ifname(name)
	e.add(setBridges, key)
	if !b.Isolated {
		e.add(setSame, slices.Concat(key, key))
	}
	first, last := bounds(b.Subnet)
	e[setHairpin] = append(e[setHairpin], nftables.SetElement{Key: slices.Concat(key, first), KeyEnd: slices.Concat(key, last)})
	if b.Internal {
		e.add(setInternal, key)
	} else if b.Masquerade {
		v4 := proto(unix.NFPROTO_IPV4)
		e[setMasquerade] = append(e[setMasquerade], nftables.SetElement{Key: slices.Concat(v4, first), KeyEnd: slices.Concat(v4, last)})
	}
}

func (e elements) port(p Port, to netip.AddrPort) {
	set, key := mapOne, slices.Concat(proto(p.Proto), p.IP.AsSlice(), port(p.Port))
	if p.IP.IsUnspecified() {
		set, key = mapAny, slices.Concat(proto(p.Proto), port(p.Port))
	}
	value := append(to.Addr().AsSlice(), port(to.Port())...)
	e[set] = append(e[set], nftables.SetElement{Key: key, Val: value})
}

func (e elements) guard(p uint16, _ struct{}) { e.add(setGuarded, []byte{byte(p >> 8), byte(p)}) }

// bounds are the first and the last address of a subnet.
func bounds(p netip.Prefix) (first, last []byte) {
	first = p.Masked().Addr().AsSlice()
	n := binary.BigEndian.Uint32(first) | uint32(uint64(1)<<(32-p.Bits())-1)
	return first, binary.BigEndian.AppendUint32(nil, n)
}

func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b[:unix.IFNAMSIZ-1], name)
	return b
}

func proto(p uint8) []byte { return []byte{p, 0, 0, 0} }
func port(p uint16) []byte { return []byte{byte(p >> 8), byte(p), 0, 0} }

func setAdd(c *nftables.Conn, s *nftables.Set, all []nftables.SetElement) error {
	for len(all) > 0 {
		n := min(len(all), chunk)
		if err := c.SetAddElements(s, all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

func setDelete(c *nftables.Conn, s *nftables.Set, all []nftables.SetElement) error {
	for len(all) > 0 {
		n := min(len(all), chunk)
		if err := c.SetDeleteElements(s, all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}
