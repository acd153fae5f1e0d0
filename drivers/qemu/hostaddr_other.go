//go:build !linux

package qemu

import (
	"net/netip"

	"github.com/getberth/berth/engine/config"
)

// hostAddress is where the ports of a machine are on the host. Here 127.0.0.1 is the only loopback address that needs no
// privileges, so machines share it and differ by port.
func hostAddress(string, int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

func ownSSHPorts(index int) []uint16 { return []uint16{uint16(22000 + index), 0} }

func ownEnginePorts(index int) []uint16 {
	return []uint16{uint16(config.EnginePort*10 + index), 0}
}

// occupied is for addresses of one's own.
func occupied(netip.Addr) bool { return false }
