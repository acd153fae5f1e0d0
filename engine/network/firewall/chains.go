package firewall

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers. The kernel knows each 16-byte register also as four of 4 bytes; a part of a concatenation takes one or more
// of the small ones.
const (
	reg1    = unix.NFT_REG_1    // 16 bytes, the first small one is NFT_REG32_00
	reg2    = unix.NFT_REG_2    // the 16 bytes after reg1
	small1  = unix.NFT_REG32_01 // the second four bytes of reg1
	small2  = unix.NFT_REG32_02 // the third four bytes of reg1
	ipSrc   = 12                // offsets in the IPv4 header
	ipDst   = 16
	dstPort = 2  // offset in the TCP and UDP headers
	ctDNAT  = 32 // IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h
)

// addChains adds the rules. In nft's words:
//
//	chain spoofed     { type filter hook prerouting priority raw
//	                    iifname @bridges ip daddr 127.0.0.0/8 drop
//	                    iifname @bridges ip saddr 127.0.0.0/8 drop }
//	chain prerouting  { type nat hook prerouting priority dstnat
//	                    ip daddr 127.0.0.0/8 return
//	                    ip saddr RELAY iifname != @bridges dnat ip to meta l4proto . 127.0.0.1 . th dport map @publish_one # if Relay
//	                    fib daddr type local jump published }
//	chain output      { type nat hook output priority dstnat
//	                    ip daddr 127.0.0.0/8 return # if noLoopback
//	                    fib daddr type local jump published }
//	chain published   { dnat ip to meta l4proto . ip daddr . th dport map @publish_one
//	                    dnat ip to meta l4proto . th dport map @publish }
//	chain postrouting { type nat hook postrouting priority srcnat
//	                    ip saddr 127.0.0.0/8 oifname @bridges masquerade
//	                    ct status dnat oifname . ip saddr @hairpin masquerade
//	                    meta nfproto . ip saddr @masquerade oifname != @bridges masquerade }
//	chain input       { type filter hook input priority filter
//	                    iifname @bridges tcp dport @guarded drop }
//	chain forward     { type filter hook forward priority filter
//	                    oifname @bridges jump to_bridge
//	                    iifname @internal drop }
//	chain to_bridge   { ct state established,related accept
//	                    ct status dnat accept
//	                    iifname . oifname @same accept
//	                    drop }
func addChains(c *nftables.Conn, t *nftables.Table, want Rules) {
	r := ruler{c: c, t: t}

	// The bridges route 127/8 (route_localnet), for ports published on it: containers must not use that.
	spoofed := r.base("spoofed", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	r.rule(spoofed, inSet(expr.MetaKeyIIFNAME, setBridges, false), loopback(ipDst), drop())
	r.rule(spoofed, inSet(expr.MetaKeyIIFNAME, setBridges, false), loopback(ipSrc), drop())

	published := r.chain("published")
	r.rule(published, ipv4(), l4proto(reg1), ipField(ipDst, small1), transportPort(small2), dnat(mapOne))
	r.rule(published, ipv4(), l4proto(reg1), transportPort(small1), dnat(mapAny))

	// Who sends to 127/8 from another machine must not be answered by a port that is published there.
	prerouting := r.base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	r.rule(prerouting, loopback(ipDst), verdict(expr.VerdictReturn, ""))
	if want.Relay.Is4() {
		r.rule(prerouting, from(want.Relay), inSet(expr.MetaKeyIIFNAME, setBridges, true),
			l4proto(reg1), constant(netip.AddrFrom4([4]byte{127, 0, 0, 1}), small1), transportPort(small2), dnat(mapOne))
	}
	r.rule(prerouting, toLocal(), verdict(expr.VerdictJump, published.Name))
	output := r.base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	if want.NoLoopback {
		r.rule(output, loopback(ipDst), verdict(expr.VerdictReturn, ""))
	}
	r.rule(output, toLocal(), verdict(expr.VerdictJump, published.Name))

	masquerade := exprs{&expr.Masq{}}
	postrouting := r.base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	r.rule(postrouting, loopback(ipSrc), inSet(expr.MetaKeyOIFNAME, setBridges, false), masquerade)
	r.rule(postrouting, ctBits(expr.CtKeySTATUS, ctDNAT), ipv4(), hairpin(), masquerade)
	r.rule(postrouting, source(), inSet(expr.MetaKeyOIFNAME, setBridges, true), masquerade)

	input := r.base("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	r.rule(input, inSet(expr.MetaKeyIIFNAME, setBridges, false), tcp(), transportPort(reg1), lookup(setGuarded, false), drop())

	toBridge := r.chain("to_bridge")
	r.rule(toBridge, ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), verdict(expr.VerdictAccept, ""))
	r.rule(toBridge, ctBits(expr.CtKeySTATUS, ctDNAT), verdict(expr.VerdictAccept, ""))
	r.rule(toBridge, bothInSet(setSame), verdict(expr.VerdictAccept, ""))
	r.rule(toBridge, drop())
	forward := r.base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	r.rule(forward, inSet(expr.MetaKeyOIFNAME, setBridges, false), verdict(expr.VerdictJump, toBridge.Name))
	r.rule(forward, inSet(expr.MetaKeyIIFNAME, setInternal, false), drop())
}

type exprs []expr.Any

type ruler struct {
	c *nftables.Conn
	t *nftables.Table
}

func (r ruler) chain(name string) *nftables.Chain {
	return r.c.AddChain(&nftables.Chain{Name: name, Table: r.t})
}

func (r ruler) base(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
	return r.c.AddChain(&nftables.Chain{Name: name, Table: r.t, Type: kind, Hooknum: hook, Priority: priority})
}

func (r ruler) rule(chain *nftables.Chain, parts ...exprs) {
	var all exprs
	for _, p := range parts {
		all = append(all, p...)
	}
	r.c.AddRule(&nftables.Rule{Table: r.t, Chain: chain, Exprs: all})
}

func verdict(kind expr.VerdictKind, chain string) exprs {
	return exprs{&expr.Verdict{Kind: kind, Chain: chain}}
}

func drop() exprs { return verdict(expr.VerdictDrop, "") }

func lookup(set string, invert bool) exprs {
	return exprs{&expr.Lookup{SourceRegister: reg1, SetName: set, Invert: invert}}
}

// inSet matches packets whose interface is in a set of names.
func inSet(key expr.MetaKey, set string, invert bool) exprs {
	return append(exprs{&expr.Meta{Key: key, Register: reg1}}, lookup(set, invert)...)
}

// bothInSet matches packets whose pair of interfaces, in and out, is in a set.
func bothInSet(set string) exprs {
	return append(exprs{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg1},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg2},
	}, lookup(set, false)...)
}

// hairpin matches what goes from a bridge's subnet back to it: a container that uses the host's address. The input interface
// does not tell, as it is not known of frames that the bridge itself forwards (br_netfilter).
func hairpin() exprs {
	return append(exprs{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg1},
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: ipSrc, Len: 4, DestRegister: reg2},
	}, lookup(setHairpin, false)...)
}

// source matches what comes from a subnet whose addresses are hidden. The protocol is part of the key because the kernel
// stores intervals of concatenations in a kind of set that takes adjacent ones in any order.
func source() exprs {
	load := append(exprs{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg1}}, ipField(ipSrc, small1)...)
	return append(load, lookup(setMasquerade, false)...)
}

func ipv4() exprs {
	return exprs{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{unix.NFPROTO_IPV4}},
	}
}

// tcp matches TCP, over IPv4 and IPv6.
func tcp() exprs {
	return append(l4proto(reg1), &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{unix.IPPROTO_TCP}})
}

func l4proto(register uint32) exprs {
	return exprs{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}}
}

func ipField(offset, register uint32) exprs {
	return exprs{&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4, DestRegister: register}}
}

func transportPort(register uint32) exprs {
	return exprs{&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: dstPort, Len: 2, DestRegister: register}}
}

// loopback matches 127.0.0.0/8.
func loopback(offset uint32) exprs {
	return append(ipv4(),
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 1, DestRegister: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{127}})
}

// from matches packets of one IPv4 address.
func from(addr netip.Addr) exprs {
	return append(append(ipv4(), ipField(ipSrc, reg1)...), &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: addr.AsSlice()})
}

func constant(addr netip.Addr, register uint32) exprs {
	return exprs{&expr.Immediate{Register: register, Data: addr.AsSlice()}}
}

// toLocal matches packets for an address of this host.
func toLocal() exprs {
	return exprs{
		&expr.Fib{Register: reg1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// ctBits matches packets whose connection has one of the bits set.
func ctBits(key expr.CtKey, bits uint32) exprs {
	return exprs{
		&expr.Ct{Key: key, Register: reg1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: make([]byte, 4)},
	}
}

// dnat sends a packet to what a map says, given the key that was loaded from reg1 on.
func dnat(set string) exprs {
	return exprs{
		&expr.Lookup{SourceRegister: reg1, DestRegister: reg1, IsDestRegSet: true, SetName: set},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4,
			RegAddrMin: reg1, RegAddrMax: reg1, RegProtoMin: small1, RegProtoMax: small1, Specified: true},
	}
}
