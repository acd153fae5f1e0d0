// Package qemu makes light virtual machines with QEMU: a kernel booted directly, virtio devices only, a network in user space
// (package vswitch). It needs no privileges. Each machine is one QEMU process; what must outlast it is in the machine's folder:
//
//	data.raw       the machine's disk, sparse
//	seed.img       what the guest is told at boot, its host key among it; 0600
//	console.log    what the guest printed, bounded; written by the switch
//	qemu.log       what QEMU itself said
//	process.json   the running process
//	qemu.lock      held by the running QEMU: as long as it is, the disk is in use
package qemu

import (
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/getberth/berth/drivers"
)

// Name of the driver.
const Name = "qemu"

// Config is what the driver needs to know of the program that uses it.
type Config struct {
	// GuestDir has the guest image: seed.Kernel, seed.Initrd, seed.Root and seed.Manifest.
	GuestDir string
	// Helper starts the virtual switch: a program and its first arguments, whose main then calls server.Main (in vswitch) with the
	// rest. Empty when the program is not installed.
	Helper []string
	// Store is the absolute path of the folder of all machines. Machines of one store share a network. When empty it is the
	// folder two above a machine's.
	Store string
	// BootTimeout bounds the wait for a machine's SSH; 0 means 2 minutes with a hardware accelerator and 5 without.
	BootTimeout time.Duration
	// StopTimeout is what an orderly end may take; 0 means a minute.
	StopTimeout time.Duration
	// Idle is how long the switch stays when no machine runs; 0 means a minute.
	Idle time.Duration
}

// Driver makes machines with QEMU. It has no state of its own that matters: several processes may use the same store.
type Driver struct {
	conf    Config
	host    host
	checked checked
	// releases has the release of each QEMU program that was looked at, by its path.
	releases sync.Map
}

var (
	_ drivers.Driver    = (*Driver)(nil)
	_ drivers.Killer    = (*Driver)(nil)
	_ drivers.Restarter = (*Driver)(nil)
	_ drivers.Diagnoser = (*Driver)(nil)
	_ drivers.Warner    = (*Driver)(nil)
	_ drivers.Settler   = (*Driver)(nil)
	_ drivers.Renamer   = (*Driver)(nil)
)

// New returns the driver.
func New(conf Config) drivers.Driver {
	if conf.StopTimeout == 0 {
		conf.StopTimeout = time.Minute
	}
	if conf.Idle == 0 {
		conf.Idle = time.Minute
	}
	return &Driver{conf: conf, host: host{goos: runtime.GOOS, goarch: runtime.GOARCH, hardware: hardware}}
}

// stateVersion is the version of state that this driver writes.
const stateVersion = 1

// state is the driver's record of a machine. It has no path of the store, and no secret.
type state struct {
	Version    int    `json:"version"`
	Index      int    `json:"index"`          // address in the virtual network: 192.168.127.INDEX
	HostIP     string `json:"hostIP"`         // where the machine's ports are on the host
	SSHPort    uint16 `json:"sshPort"`        // on HostIP
	EnginePort uint16 `json:"enginePort"`     // on HostIP
	CPUs       int    `json:"cpus,omitempty"` // 0: as many as suits the accelerator
	Memory     int    `json:"memory"`         // MiB
	DiskSize   int64  `json:"diskSize"`       // bytes; a smaller disk grows to it at the next start
	Accel      string `json:"accel"`          // as asked for: auto or a name
	// Silent is the accelerator under which the guest has shown no sign of life: auto does not choose it again.
	Silent   string   `json:"silent,omitempty"`
	QEMU     release  `json:"qemu,omitzero"`      // what it was last started with
	Binary   string   `json:"binary,omitempty"`   // as asked for
	GuestDir string   `json:"guestDir,omitempty"` // as asked for
	Extra    []string `json:"extraArgs,omitempty"`
}

// load reads a machine's state; nil when it has none.
func load(h *drivers.Host) (*state, error) {
	var s state
	if there, err := h.Recorded("qemu", stateVersion, &s); !there {
		return nil, err
	}
	return &s, nil
}

// mustLoad is load for what needs a machine.
func mustLoad(h *drivers.Host) (*state, error) {
	s, err := load(h)
	if err == nil && s == nil {
		err = fmt.Errorf("machine %q has not been created yet", h.Name)
	}
	return s, err
}

// Names of files in a machine's folder.
const (
	diskFile    = "data.raw"
	seedFile    = "seed.img"
	consoleFile = "console.log"
	qemuLog     = "qemu.log"
	processFile = "process.json"
	lockFile    = "qemu.lock"
)

func (d *Driver) store(h *drivers.Host) string {
	if d.conf.Store != "" {
		return d.conf.Store
	}
	return filepath.Dir(filepath.Dir(h.Dir))
}

func logf(h *drivers.Host, format string, args ...any) {
	if h.Log != nil {
		h.Log(format, args...)
	}
}

func debugf(h *drivers.Host, format string, args ...any) {
	if h.Out != nil && h.Out != io.Discard {
		fmt.Fprintf(h.Out, "qemu: "+format+"\n", args...)
	}
}
