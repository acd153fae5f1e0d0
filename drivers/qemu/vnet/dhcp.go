package vnet

import (
	"errors"
	"net"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/getberth/berth/drivers/qemu/lan"
	"github.com/getberth/berth/guest/seed"
)

// The server is ours because all leases are known beforehand, and because gvisor-tap-vsock's brings in gopacket, whose
// initialisation would cost every start of berth 20 ms.

const (
	dhcpPort  = 67
	leaseTime = time.Hour
	// maxDHCP is more than any link of ours carries in one packet, in bytes.
	maxDHCP = 4 << 10
)

// startDHCP gives each machine the address of its index.
func (n *Network) startDHCP() error {
	var queue waiter.Queue
	ep, err := n.stack.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &queue)
	if err != nil {
		return errors.New("starting DHCP: " + err.String())
	}
	ep.SocketOptions().SetBroadcast(true)
	if err := ep.Bind(tcpip.FullAddress{NIC: nic, Port: dhcpPort}); err != nil {
		ep.Close()
		return errors.New("starting DHCP: " + err.String())
	}
	conn := gonet.NewUDPConn(&queue, ep)
	n.close = append(n.close, func() { conn.Close() })
	go n.serveDHCP(conn)
	return nil
}

// serveDHCP answers until the connection is closed. What is no request, or from nobody we know, gets no answer.
func (n *Network) serveDHCP(conn net.PacketConn) {
	buf := make([]byte, maxDHCP)
	for {
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		request, err := dhcpv4.FromBytes(slices.Clone(buf[:size]))
		if err != nil {
			continue
		}
		peer, ok := from.(*net.UDPAddr)
		reply := dhcpReply(request)
		if !ok || reply == nil {
			continue
		}
		if peer.IP == nil || peer.IP.IsUnspecified() { // it has no address yet
			peer = &net.UDPAddr{IP: net.IPv4bcast, Port: peer.Port}
		}
		if _, err := conn.WriteTo(reply.ToBytes(), peer); err != nil {
			n.log.Debug("answering DHCP", "client", request.ClientHWAddr, "err", err)
		}
	}
}

// dhcpReply is nil when a message is not to be answered.
func dhcpReply(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	var kind dhcpv4.MessageType
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		kind = dhcpv4.MessageTypeAck
	default:
		return nil
	}
	index, ok := machineOf(m.ClientHWAddr)
	if !ok {
		return nil
	}
	gateway := net.IP(lan.Gateway().AsSlice())
	reply, err := dhcpv4.NewReplyFromRequest(m,
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithYourIP(lan.IP(index).AsSlice()),
		dhcpv4.WithServerIP(gateway),
		dhcpv4.WithLeaseTime(uint32(leaseTime.Seconds())),
		dhcpv4.WithNetmask(net.CIDRMask(lan.Subnet().Bits(), 32)),
		dhcpv4.WithRouter(gateway),
		dhcpv4.WithDNS(gateway),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway)),
		dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, dhcpv4.Uint16(lan.MTU).ToBytes()),
		dhcpv4.WithOption(dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: []string{seed.Domain}})),
	)
	if err != nil {
		return nil
	}
	return reply
}

// machineOf finds the machine that a hardware address belongs to.
func machineOf(mac net.HardwareAddr) (int, bool) {
	if len(mac) != 6 {
		return 0, false
	}
	index := int(mac[5])
	return index, lan.Valid(index) && [6]byte(mac) == lan.MAC(index)
}
