// Package fakevm is a light VM without QEMU, for tests: a guest's network stack at the end of QEMU's stream protocol, and the
// sockets on which a QEMU listens.
package fakevm

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/getberth/berth/drivers/qemu/lan"
)

const nic = tcpip.NICID(1)

// Guest is a machine's network stack with its address set.
type Guest struct {
	Index int
	Seen  chan []byte // frames that came in, as far as there is room

	stack *stack.Stack
	conn  net.Conn
	mu    sync.Mutex // whole frames
}

// NewGuest joins a guest with the given index to conn. It ends with the test.
func NewGuest(t testing.TB, conn net.Conn, index int) *Guest {
	t.Helper()
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	mac := lan.MAC(index)
	ch := channel.New(256, lan.MTU+header.EthernetMinimumSize, tcpip.LinkAddress(mac[:]))
	g := &Guest{Index: index, Seen: make(chan []byte, 64), stack: s, conn: conn}
	if err := s.CreateNIC(nic, ethernet.New(ch)); err != nil {
		t.Fatal(err)
	}
	own := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: addr(lan.IP(index)).WithPrefix()}
	if err := s.AddProtocolAddress(nic, own, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	local := tcpip.AddressWithPrefix{Address: addr(lan.Subnet().Addr()), PrefixLen: lan.Subnet().Bits()}.Subnet()
	s.SetRouteTable([]tcpip.Route{
		{Destination: local, NIC: nic},
		{Destination: header.IPv4EmptySubnet, Gateway: addr(lan.Gateway()), NIC: nic},
	})
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); conn.Close(); s.Destroy() })
	go g.out(ctx, ch)
	go g.in(ch)
	return g
}

func (g *Guest) out(ctx context.Context, ch *channel.Endpoint) {
	for {
		p := ch.ReadContext(ctx)
		if p == nil {
			return
		}
		v := p.ToView()
		g.Send(v.AsSlice())
		v.Release()
		p.DecRef()
	}
}

func (g *Guest) in(ch *channel.Endpoint) {
	r := bufio.NewReader(g.conn)
	for {
		var n uint32
		if binary.Read(r, binary.BigEndian, &n) != nil {
			return
		}
		f := make([]byte, n)
		if _, err := io.ReadFull(r, f); err != nil {
			return
		}
		select {
		case g.Seen <- f:
		default:
		}
		p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(f)})
		ch.InjectInbound(0, p)
		p.DecRef()
	}
}

// Send puts a raw frame on the wire.
func (g *Guest) Send(frame []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := binary.BigEndian.AppendUint32(nil, uint32(len(frame)))
	_, err := g.conn.Write(append(b, frame...))
	return err
}

// SendRaw writes bytes as they are.
func (g *Guest) SendRaw(b []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, err := g.conn.Write(b)
	return err
}

// Close pulls the plug.
func (g *Guest) Close() { g.conn.Close() }

// DialTCP connects to an address from the guest.
func (g *Guest) DialTCP(ctx context.Context, to netip.AddrPort) (*gonet.TCPConn, error) {
	return gonet.DialContextTCP(ctx, g.stack, full(to), ipv4.ProtocolNumber)
}

// DialUDP opens a flow from the guest.
func (g *Guest) DialUDP(to netip.AddrPort) (*gonet.UDPConn, error) {
	remote := full(to)
	return gonet.DialUDP(g.stack, nil, &remote, ipv4.ProtocolNumber)
}

// ListenTCP serves connections to a port of the guest, each by f, until the test ends.
func (g *Guest) ListenTCP(t testing.TB, port uint16, f func(net.Conn)) {
	t.Helper()
	l, err := gonet.ListenTCP(g.stack, tcpip.FullAddress{NIC: nic, Port: port}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c)
		}
	}()
}

// EchoUDP answers each datagram to a port of the guest with itself.
func (g *Guest) EchoUDP(t testing.TB, port uint16) {
	t.Helper()
	c, err := gonet.DialUDP(g.stack, &tcpip.FullAddress{NIC: nic, Port: port}, nil, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, a, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:n], a)
		}
	}()
}

// Echo answers a connection with what comes in, and ends it when the other side has.
func Echo(c net.Conn) {
	defer c.Close()
	io.Copy(c, c)
}

func addr(a netip.Addr) tcpip.Address { return tcpip.AddrFrom4(a.As4()) }

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: addr(a.Addr()), Port: a.Port()}
}

// Frame is an Ethernet frame with an IPv4 packet with a UDP datagram.
func Frame(srcMAC, dstMAC [6]byte, src, dst netip.AddrPort, payload []byte) []byte {
	const eth, ip, u = header.EthernetMinimumSize, header.IPv4MinimumSize, header.UDPMinimumSize
	b := make([]byte, eth+ip+u, eth+ip+u+len(payload))
	b = append(b, payload...)
	header.Ethernet(b).Encode(&header.EthernetFields{SrcAddr: tcpip.LinkAddress(srcMAC[:]), DstAddr: tcpip.LinkAddress(dstMAC[:]), Type: ipv4.ProtocolNumber})
	h := header.IPv4(b[eth:])
	h.Encode(&header.IPv4Fields{TotalLength: uint16(len(b) - eth), TTL: 64, Protocol: uint8(udp.ProtocolNumber), SrcAddr: addr(src.Addr()), DstAddr: addr(dst.Addr())})
	h.SetChecksum(^h.CalculateChecksum())
	header.UDP(b[eth+ip:]).Encode(&header.UDPFields{SrcPort: src.Port(), DstPort: dst.Port(), Length: uint16(u + len(payload))})
	return b
}

// QEMU listens where a machine's QEMU does.
type QEMU struct {
	Net     net.Conn // the switch's connections, once they have come; the network card's is a Guest's
	Control net.Conn
	Ports   net.Conn
	Console net.Conn

	listeners []net.Listener
}

// Listen opens the four sockets.
func Listen(t testing.TB, paths ...string) *QEMU {
	t.Helper()
	if len(paths) != 4 {
		t.Fatal("a QEMU has four sockets")
	}
	q := &QEMU{}
	for _, p := range paths {
		l, err := net.Listen("unix", p)
		if err != nil {
			t.Fatal(err)
		}
		q.listeners = append(q.listeners, l)
	}
	t.Cleanup(q.Close)
	return q
}

// Accept waits for the switch's connections.
func (q *QEMU) Accept() error {
	for i, c := range []*net.Conn{&q.Net, &q.Control, &q.Ports, &q.Console} {
		var err error
		if *c, err = q.listeners[i].Accept(); err != nil {
			return fmt.Errorf("socket %d: %w", i, err)
		}
	}
	return nil
}

// Close is the end of QEMU.
func (q *QEMU) Close() {
	for _, l := range q.listeners {
		l.Close()
	}
	for _, c := range []net.Conn{q.Net, q.Control, q.Ports, q.Console} {
		if c != nil {
			c.Close()
		}
	}
}
