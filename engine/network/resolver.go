package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/network/firewall"
	"github.com/getberth/berth/engine/network/nameserver"
)

const dnsPort = 53

// resolverAddr is where a container finds its names.
func resolverAddr() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// ensureResolver starts the resolver of a sandbox that needs one, and stops that of one that does not. It needs sb.mu.
func (s *Service) ensureResolver(sb *sandbox) error {
	needed := sb.rec.Path != "" && (sb.rec.Forward || s.hasNames(sb))
	switch {
	case needed && sb.resolver == nil:
		if err := s.startResolver(sb); err != nil {
			return fmt.Errorf("serving names at %s: %w", resolverAddr(), err)
		}
	case !needed:
		return sb.stopResolver()
	}
	return nil
}

func (s *Service) hasNames(sb *sandbox) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(sb.endpoints, func(ep *endpointRecord) bool {
		n := s.networks[ep.Network]
		return n != nil && n.hasNames()
	})
}

// dnsSockets are the two that a resolver serves.
type dnsSockets struct {
	packets  *net.UDPConn
	listener *net.TCPListener
}

func listenDNS(port uint16) (d dnsSockets, err error) {
	at := netip.AddrPortFrom(resolverAddr(), port)
	if d.packets, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at)); err != nil {
		return d, err
	}
	if d.listener, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at)); err != nil {
		return d, errors.Join(err, d.packets.Close())
	}
	return d, nil
}

func (d dnsSockets) close() error { return errors.Join(d.packets.Close(), d.listener.Close()) }

// startResolver opens sockets in the namespace. They are on ports of the kernel's choice, with a redirection from port 53,
// so that the container can run a name server of its own on 0.0.0.0:53. A kernel without nftables has them on port 53.
func (s *Service) startResolver(sb *sandbox) error {
	var sockets dnsSockets
	err := inNamespace(sb.rec.Path, func() (err error) {
		if sockets, err = listenDNS(0); err != nil {
			return err
		}
		udp, tcp := sockets.packets.LocalAddr().(*net.UDPAddr).Port, sockets.listener.Addr().(*net.TCPAddr).Port
		if err := redirectDNS(udp, tcp); err != nil {
			s.log.Info("names are served without a redirection", "container", sb.rec.Container, "error", err)
			closed := sockets.close()
			sockets, err = listenDNS(dnsPort)
			return errors.Join(closed, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	sb.resolver = nameserver.Serve(&zone{s: s, sb: sb}, sockets.packets, sockets.listener)
	return nil
}

func (sb *sandbox) stopResolver() error {
	if sb.resolver == nil {
		return nil
	}
	err := sb.resolver.Close()
	sb.resolver = nil
	return err
}

// redirectDNS runs in the container's namespace.
func redirectDNS(udpPort, tcpPort int) error {
	return firewall.Retry(func() error {
		c, err := firewall.Connect()
		if err != nil {
			return err
		}
		t := &nftables.Table{Name: "berth_dns", Family: nftables.TableFamilyIPv4}
		c.AddTable(t) // so that deleting it cannot fail
		c.DelTable(t)
		c.AddTable(t)
		output := c.AddChain(&nftables.Chain{
			Name: "output", Table: t, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
		})
		c.AddRule(&nftables.Rule{Table: t, Chain: output, Exprs: redirectRule(unix.IPPROTO_UDP, udpPort)})
		c.AddRule(&nftables.Rule{Table: t, Chain: output, Exprs: redirectRule(unix.IPPROTO_TCP, tcpPort)})
		return c.Flush()
	})
}

// redirectRule is: ip daddr 127.0.0.11 PROTO dport 53 dnat to 127.0.0.11:PORT
func redirectRule(proto byte, port int) []expr.Any {
	const dstAddr, dstPort = 16, 2 // offsets in the IPv4 and the TCP or UDP header
	addr := resolverAddr().AsSlice()
	return []expr.Any{
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: dstAddr, Len: 4, DestRegister: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: addr},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{proto}},
		&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: dstPort, Len: 2, DestRegister: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{0, dnsPort}},
		&expr.Immediate{Register: unix.NFT_REG_1, Data: addr},
		&expr.Immediate{Register: unix.NFT_REG_2, Data: []byte{byte(port >> 8), byte(port)}},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4,
			RegAddrMin: unix.NFT_REG_1, RegProtoMin: unix.NFT_REG_2, Specified: true},
	}
}

// zone is what one container sees of the names.
type zone struct {
	s  *Service
	sb *sandbox
}

// Lookup finds a name, or NAME.NETWORK, in the networks that the container is in.
func (z *zone) Lookup(name string) (addrs []netip.Addr, known bool) {
	z.s.mu.Lock()
	defer z.s.mu.Unlock()
	for _, ep := range z.sb.endpoints {
		n := z.s.networks[ep.Network]
		if n == nil || !n.hasNames() {
			continue
		}
		for _, other := range n.endpoints {
			if other.answersTo(name, n.rec.Name) || other.answersTo(ep.linked(name), n.rec.Name) {
				addrs = append(addrs, other.Address.Addr())
			}
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs, len(addrs) > 0
}

func (ep *endpointRecord) answersTo(name, network string) bool {
	return name != "" && slices.ContainsFunc(ep.Names, func(own string) bool {
		return strings.EqualFold(own, name) || strings.EqualFold(own+"."+network, name)
	})
}

// linked returns the container that a link of this endpoint ("container:alias") calls by a name.
func (ep *endpointRecord) linked(name string) string {
	if ep.Wanted == nil {
		return ""
	}
	for _, link := range ep.Wanted.Links {
		if container, alias, ok := strings.Cut(link, ":"); ok && strings.EqualFold(alias, name) {
			return strings.TrimPrefix(container, "/")
		}
	}
	return ""
}

// Reverse finds the name of a container in the networks that this one is in.
func (z *zone) Reverse(addr netip.Addr) (name string, known bool) {
	z.s.mu.Lock()
	defer z.s.mu.Unlock()
	for _, ep := range z.sb.endpoints {
		n := z.s.networks[ep.Network]
		if n == nil || !n.hasNames() {
			continue
		}
		for _, other := range n.endpoints {
			if other.Address.Addr() == addr && len(other.Names) > 0 {
				return other.Names[0] + "." + n.rec.Name, true
			}
		}
	}
	return "", false
}

// Servers are the resolvers that the container asked for, else the engine's, else the host's. A container that reaches no
// other host shall not reach their resolvers either.
func (z *zone) Servers() []netip.AddrPort {
	z.s.mu.Lock()
	out := slices.ContainsFunc(z.sb.endpoints, func(ep *endpointRecord) bool { return ep.Gateway.IsValid() })
	servers := z.sb.rec.Servers
	z.s.mu.Unlock()
	if !out {
		return nil
	}
	if len(servers) == 0 {
		servers = z.s.cfg.DNS
	}
	if len(servers) == 0 {
		servers = readResolvConf(hostResolvConf).servers
	}
	var result []netip.AddrPort
	for _, a := range servers {
		result = append(result, netip.AddrPortFrom(a, dnsPort))
	}
	return result
}
