// Package vnet is the network that the light VMs of one store share, in user space: a switch whose ports speak QEMU's stream
// protocol, and a gateway with DHCP, DNS and NAT. It needs no privileges and offers guests nothing but these services: there is
// no control interface on it.
package vnet

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/getberth/berth/drivers/qemu/lan"
)

const nic = tcpip.NICID(1)

// Network is the switch with its gateway. Its methods may be called from several goroutines.
type Network struct {
	log   *slog.Logger
	stack *stack.Stack
	link  *link
	names *names
	close []func()

	mu    sync.RWMutex
	ports map[int]*port // guarded by mu
}

// New starts a network without machines.
func New(log *slog.Logger) (*Network, error) {
	n := &Network{log: log, ports: map[int]*port{}, names: newNames()}
	n.link = &link{send: n.toGuests}
	if err := n.startStack(); err != nil {
		return nil, fmt.Errorf("starting the network stack: %w", err)
	}
	for _, start := range []func() error{n.startDHCP, n.startDNS} {
		if err := start(); err != nil {
			n.Close()
			return nil, err
		}
	}
	n.startNAT()
	return n, nil
}

// Close ends the gateway and cuts all connections off.
func (n *Network) Close() {
	n.mu.RLock()
	for _, p := range n.ports {
		p.conn.Close()
	}
	n.mu.RUnlock()
	for _, f := range n.close {
		f()
	}
	n.stack.Destroy()
}

func (n *Network) startStack() error {
	n.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	if err := n.stack.CreateNIC(nic, n.link); err != nil {
		return fmt.Errorf("%s", err)
	}
	own := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: address(lan.Gateway()).WithPrefix()}
	if err := n.stack.AddProtocolAddress(nic, own, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("%s", err)
	}
	// The gateway answers in the name of every address outside.
	n.stack.SetSpoofing(nic, true)
	n.stack.SetPromiscuousMode(nic, true)
	subnet := tcpip.AddressWithPrefix{Address: address(lan.Subnet().Addr()), PrefixLen: lan.Subnet().Bits()}.Subnet()
	n.stack.SetRouteTable([]tcpip.Route{{Destination: subnet, NIC: nic}})
	return n.tune()
}

// tune bounds what one connection may hold in memory, and writes the neighbours down: nobody can pretend to be another.
func (n *Network) tune() error {
	sack := tcpip.TCPSACKEnabled(true)
	snd := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 256 << 10, Max: 1 << 20}
	rcv := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 256 << 10, Max: 1 << 20}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &snd, &rcv} {
		if err := n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("%s", err)
		}
	}
	for i := lan.First; i <= lan.Last; i++ {
		mac := lan.MAC(i)
		if err := n.stack.AddStaticNeighbor(nic, ipv4.ProtocolNumber, address(lan.IP(i)), tcpip.LinkAddress(mac[:])); err != nil {
			return fmt.Errorf("%s", err)
		}
	}
	return nil
}

// DialTCP connects from the gateway to a machine.
func (n *Network) DialTCP(ctx context.Context, to netip.AddrPort) (*gonet.TCPConn, error) {
	return gonet.DialContextTCP(ctx, n.stack, full(to), ipv4.ProtocolNumber)
}

// DialUDP opens a flow from the gateway to a machine.
func (n *Network) DialUDP(to netip.AddrPort) (net.Conn, error) {
	remote := full(to)
	return gonet.DialUDP(n.stack, &tcpip.FullAddress{NIC: nic, Addr: address(lan.Gateway())}, &remote, ipv4.ProtocolNumber)
}

// SetNames replaces the names of the machines: each is answered for as NAME.berth.internal and, if it has no dot, as NAME.
func (n *Network) SetNames(m map[string]netip.Addr) { n.names.set(m) }

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFrom4(a.As4()) }

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: address(a.Addr()), Port: a.Port()}
}
