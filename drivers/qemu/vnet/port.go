package vnet

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const (
	// maxFrame is what QEMU's stream backend may send: 64 KiB of payload and its headers.
	maxFrame = 4096 + 65536
	// queueLength is how many frames wait for a guest that is slower than its senders.
	queueLength = 512
	// patience is how long a sender waits for a full queue. A guest that takes nothing for that long is paused or dead:
	// frames to it are dropped until it takes one again, so that it cannot hold up the others.
	patience = 100 * time.Millisecond
)

// port is one machine's connection to the switch.
type port struct {
	index   int
	conn    net.Conn
	queue   chan []byte // frames with their length in front
	stalled atomic.Bool
	done    chan struct{}
}

func newPort(index int, conn net.Conn) *port {
	return &port{index: index, conn: conn, queue: make(chan []byte, queueLength), done: make(chan struct{})}
}

// send queues a frame made by framed.
func (p *port) send(frame []byte) {
	select {
	case p.queue <- frame:
		return
	default:
	}
	if p.stalled.Load() {
		return
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case p.queue <- frame:
	case <-p.done:
	case <-t.C:
		p.stalled.Store(true)
	}
}

// write carries queued frames to the guest, as many in one system call as there are.
func (p *port) write() {
	w := bufio.NewWriterSize(p.conn, 64<<10)
	for {
		select {
		case f := <-p.queue:
			if _, err := w.Write(f); err != nil {
				p.conn.Close()
				return
			}
			if len(p.queue) == 0 && w.Flush() != nil {
				p.conn.Close()
				return
			}
			p.stalled.Store(false)
		case <-p.done:
			return
		}
	}
}

// read hands each frame from the guest to take, which must not keep it, until the connection ends.
func (p *port) read(take func(frame []byte)) error {
	r := bufio.NewReaderSize(p.conn, 128<<10)
	buf := make([]byte, maxFrame)
	var head [4]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return ended(err)
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > maxFrame {
			return fmt.Errorf("machine %d sent a frame of %d bytes, more than the %d that QEMU can", p.index, n, maxFrame)
		}
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return ended(err)
		}
		take(buf[:n])
	}
}

func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// framed copies a frame and puts its length in front, as QEMU's stream backend wants it.
func framed(parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	f := make([]byte, 4, 4+n)
	binary.BigEndian.PutUint32(f, uint32(n))
	for _, p := range parts {
		f = append(f, p...)
	}
	return f
}

// Attach makes conn, which speaks QEMU's stream protocol, the port of the machine with the given index, and serves it until
// the connection ends or ctx is done. A port has one connection: a second one is refused.
func (n *Network) Attach(ctx context.Context, conn net.Conn, index int) error {
	p := newPort(index, conn)
	if err := n.plug(p); err != nil {
		conn.Close()
		return err
	}
	defer n.unplug(p)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go p.write()
	err := p.read(func(frame []byte) { n.fromGuest(p, frame) })
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (n *Network) plug(p *port) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ports[p.index] != nil {
		return fmt.Errorf("the machine with address %d is connected already", p.index)
	}
	n.ports[p.index] = p
	return nil
}

func (n *Network) unplug(p *port) {
	n.mu.Lock()
	delete(n.ports, p.index)
	n.mu.Unlock()
	close(p.done)
	p.conn.Close()
}

func (n *Network) fromGuest(p *port, frame []byte) {
	v := judge(frame, p.index)
	switch {
	case v.port != 0:
		if to := n.port(v.port); to != nil {
			to.send(framed(frame))
		}
	case v.flood:
		n.flood(framed(frame), p.index)
	}
	if v.gateway {
		n.link.deliver(frame)
	}
}

func (n *Network) port(index int) *port {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.ports[index]
}

// flood sends a frame to every machine but one.
func (n *Network) flood(frame []byte, except int) {
	n.mu.RLock()
	to := make([]*port, 0, len(n.ports))
	for i, p := range n.ports {
		if i != except {
			to = append(to, p)
		}
	}
	n.mu.RUnlock()
	for _, p := range to {
		p.send(frame)
	}
}

// toGuests carries a frame of the gateway to whom its destination address names.
func (n *Network) toGuests(dst [6]byte, frame []byte) {
	if dst == broadcastMAC {
		n.flood(frame, 0)
		return
	}
	if p := n.port(int(dst[5])); p != nil {
		p.send(frame)
	}
}
