// Package vswitch is the way to the virtual switch, the process that joins the light VMs of one store: their network, their
// addresses and published ports on the host, their clocks and consoles. There is one per store, started when it is needed and ended
// by itself when no machine is left. It is controlled over HTTP on a unix socket that only its user can open; nothing of that is on
// the machines' network. QEMU listens and the switch dials, so that a new switch finds the machines of one that died.
//
// The switch itself is package server, in a program of its own: the network stack would cost every command of berth its time to start.
package vswitch

import (
	"net/netip"
	"path/filepath"
	"strconv"
)

// Version of the control API.
const Version = 1

// Ready is the line that a switch writes to its standard output once it answers; anything else is an error.
const Ready = "ready"

// Socket is the name of the control socket in a run folder.
const Socket = "switch.sock"

// LogFile is the name of the switch's log in a run folder.
const LogFile = "switch.log"

// NetSocket is QEMU's end of a machine's network card.
func NetSocket(dir string, index int) string { return MachineFile(dir, index, "net") }

// ControlSocket is QEMU's end of seed.ControlPort.
func ControlSocket(dir string, index int) string { return MachineFile(dir, index, "ctl") }

// PortsSocket is QEMU's end of seed.PortsPort.
func PortsSocket(dir string, index int) string { return MachineFile(dir, index, "prt") }

// ConsoleSocket is QEMU's end of the serial console.
func ConsoleSocket(dir string, index int) string { return MachineFile(dir, index, "con") }

// MachineFile is a file of one machine in a run folder.
func MachineFile(dir string, index int, suffix string) string {
	return filepath.Join(dir, strconv.Itoa(index)+"."+suffix)
}

// Machine is what the switch is told about a machine.
type Machine struct {
	Name       string     `json:"name"`
	Index      int        `json:"index"`
	HostIP     netip.Addr `json:"hostIP"`     // where its ports appear on the host: a loopback address
	SSHPort    uint16     `json:"sshPort"`    // on HostIP
	EnginePort uint16     `json:"enginePort"` // on HostIP
	Console    string     `json:"console"`    // file that takes the console's output; absolute, or relative to the run folder
	// Fresh machines have not run yet: what was known of the index before is of another boot.
	Fresh bool `json:"fresh,omitempty"`
}

// Status is what the switch knows about a machine that is attached.
type Status struct {
	Machine
	SSH      bool      `json:"ssh"`              // SSH answers
	Engine   bool      `json:"engine"`           // the engine answers
	Spoke    bool      `json:"spoke"`            // the guest has said anything, on its console or to the switch
	Failed   string    `json:"failed,omitempty"` // what the guest says failed
	Forwards []Forward `json:"forwards"`
}

// Forward is a port of a machine on the host.
type Forward struct {
	Proto string `json:"proto"`
	Host  string `json:"host"`            // address and port on the host
	Guest uint16 `json:"guest"`           // port in the machine
	Error string `json:"error,omitempty"` // why it is not open, e.g. that another program has the port
}

// Error is a refusal of the switch.
type Error struct {
	Status  int    `json:"-"` // HTTP's
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Pong is the answer to a ping.
type Pong struct {
	Version int `json:"version"`
	PID     int `json:"pid"`
}
