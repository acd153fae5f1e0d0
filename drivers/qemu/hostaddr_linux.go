package qemu

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/getberth/berth/engine/config"
)

// hostAddress is where the ports of a machine are on the host: all of 127/8 is the host's own on Linux, so each machine has an
// address to itself. The second byte keeps clear of the addresses that others like: 127.0.x.x and the high ones.
func hostAddress(id string, index int) netip.Addr {
	x, y := idBytes(id)
	return netip.AddrFrom4([4]byte{127, 64 + x&0x7f, y, byte(index)})
}

// ownSSHPorts: port 22 wants privileges.
func ownSSHPorts(int) []uint16    { return []uint16{22, 2222, 0} }
func ownEnginePorts(int) []uint16 { return []uint16{config.EnginePort, 12376, 0} }

// occupied tells whether somebody has this very address in use, such as another store that happens to have the same numbers.
// A program that listens on all addresses is no reason to pass over one.
func occupied(ip netip.Addr) bool {
	elsewhere := netip.AddrFrom4([4]byte{127, 255, 255, 253})
	return inUse(ip, config.EnginePort) && !inUse(elsewhere, config.EnginePort)
}

func inUse(ip netip.Addr, port int) bool {
	l, err := net.Listen("tcp4", net.JoinHostPort(ip.String(), strconv.Itoa(port)))
	if err == nil {
		l.Close()
	}
	return errors.Is(err, syscall.EADDRINUSE)
}
