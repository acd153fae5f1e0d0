package firewall

import (
	"encoding/binary"
	"net/netip"

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

// elements is the content of each set: key to value.
type elements map[string]map[string]string

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

func (r Rules) elements() elements {
	e := elements{}
	for _, s := range sets(nil) {
		e[s.Name] = map[string]string{}
	}
	for name, b := range r.Bridges {
		key := ifname(name)
		e[setBridges][key] = ""
		first, last := bounds(b.Subnet)
		e[setHairpin][key+first] = key + last
		if !b.Isolated {
			e[setSame][key+key] = ""
		}
		if b.Internal {
			e[setInternal][key] = ""
		} else if b.Masquerade {
			e[setMasquerade][proto(unix.NFPROTO_IPV4)+first] = proto(unix.NFPROTO_IPV4) + last
		}
	}
	for p, to := range r.Ports {
		if p.IP.IsUnspecified() {
			e[mapAny][proto(p.Proto)+port(p.Port)] = addr(to.Addr()) + port(to.Port())
		} else {
			e[mapOne][proto(p.Proto)+addr(p.IP)+port(p.Port)] = addr(to.Addr()) + port(to.Port())
		}
	}
	for p := range r.Guarded {
		e[setGuarded][string(binary.BigEndian.AppendUint16(nil, p))] = ""
	}
	return e
}

// bounds are the first and the last address of a subnet.
func bounds(p netip.Prefix) (first, last string) {
	first = addr(p.Masked().Addr())
	n := binary.BigEndian.Uint32([]byte(first)) | uint32(uint64(1)<<(32-p.Bits())-1)
	return first, string(binary.BigEndian.AppendUint32(nil, n))
}

func ifname(name string) string {
	var b [unix.IFNAMSIZ]byte
	copy(b[:unix.IFNAMSIZ-1], name)
	return string(b[:])
}

func proto(p uint8) string     { return string([]byte{p, 0, 0, 0}) }
func addr(a netip.Addr) string { b := a.As4(); return string(b[:]) }
func port(p uint16) string     { return string([]byte{byte(p >> 8), byte(p), 0, 0}) }

// diff tells what to add to have and what to remove from it. A value that changed is in both.
func (s setKind) diff(have, want map[string]string) (added, removed []nftables.SetElement) {
	for k, v := range have {
		if w, ok := want[k]; !ok || w != v {
			removed = append(removed, s.element(k, v))
		}
	}
	for k, v := range want {
		if h, ok := have[k]; !ok || h != v {
			added = append(added, s.element(k, v))
		}
	}
	return added, removed
}

// setKind says what the values of a set are: ends of intervals, or data, or nothing.
type setKind struct{ interval, data bool }

func kindOf(s *nftables.Set) setKind { return setKind{interval: s.Interval, data: s.IsMap} }

func (s setKind) element(k, v string) nftables.SetElement {
	e := nftables.SetElement{Key: []byte(k)}
	switch {
	case s.interval:
		e.KeyEnd = []byte(v)
	case s.data:
		e.Val = []byte(v)
	}
	return e
}

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
