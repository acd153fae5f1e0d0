package vnet

import (
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/getberth/berth/drivers/qemu/lan"
)

// link joins the gateway's network stack to the switch; it is the stack's network card.
type link struct {
	send func(dst [6]byte, frame []byte)

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher // guarded by mu
}

var _ stack.LinkEndpoint = (*link)(nil)

// deliver hands a frame, which it copies, to the stack.
func (l *link) deliver(frame []byte) {
	l.mu.RLock()
	d := l.dispatcher
	l.mu.RUnlock()
	if d == nil {
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame[ethHeader:])})
	defer pkt.DecRef()
	d.DeliverNetworkPacket(header.Ethernet(frame).Type(), pkt)
}

// WritePackets sends what the stack has to send.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, p := range pkts.AsSlice() {
		src := p.EgressRoute.LocalLinkAddress
		if src == "" {
			src = l.LinkAddress()
		}
		dst := p.EgressRoute.RemoteLinkAddress
		if len(dst) != header.EthernetAddressSize {
			continue
		}
		var eth [ethHeader]byte
		header.Ethernet(eth[:]).Encode(&header.EthernetFields{Type: p.NetworkProtocolNumber, SrcAddr: src, DstAddr: dst})
		l.send([6]byte([]byte(dst)), framed(append([][]byte{eth[:]}, p.AsSlices()...)...))
	}
	return pkts.Len(), nil
}

// Attach is called by the stack.
func (l *link) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	l.dispatcher = d
	l.mu.Unlock()
}

// IsAttached tells whether the stack takes packets.
func (l *link) IsAttached() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.dispatcher != nil
}

// Capabilities: frames need hardware addresses; what comes from memory needs no checksum verified.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityResolutionRequired | stack.CapabilityRXChecksumOffload
}

// The rest of stack.LinkEndpoint.

func (l *link) LinkAddress() tcpip.LinkAddress          { return tcpip.LinkAddress(gatewayMAC[:]) }
func (l *link) SetLinkAddress(tcpip.LinkAddress)        {}
func (l *link) MTU() uint32                             { return lan.MTU }
func (l *link) SetMTU(uint32)                           {}
func (l *link) MaxHeaderLength() uint16                 { return 0 }
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }
func (l *link) AddHeader(*stack.PacketBuffer)           {}
func (l *link) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (l *link) Wait()                                   {}
func (l *link) Close()                                  {}
func (l *link) SetOnCloseAction(func())                 {}
