// Package seed is what the host of a light VM and its guest agree on: the seed that the host hands in on a disk, the names of
// disks and channels, and the lines spoken on the control channel. Plain data; both the qemu driver and the guest import it.
package seed

import "encoding/json"

// Serial numbers of the guest's virtio disks, by which it finds them.
const (
	RootDisk = "berth-root" // erofs, read-only
	DataDisk = "berth-data" // ext4, made by the guest on first boot, grown when the disk has grown
	SeedDisk = "berth-seed" // a Seed as JSON, padded with zero bytes to whole sectors, read-only
)

// Names of the virtio-serial ports, found in /dev/virtio-ports. Each speaks JSON lines.
const (
	ControlPort = "berth.control" // init's: Event from the guest, Command from the host
	PortsPort   = "berth.ports"   // the engine's: config.PortSet from the guest
)

// Network of the virtual switch that all light VMs of one store share.
const (
	Subnet  = "192.168.127.0/24"
	Gateway = "192.168.127.1" // also DNS and DHCP
	Domain  = "berth.internal"
)

// Version of Seed that this berth writes; a guest refuses a newer one.
const Version = 1

// MaxSize bounds a seed, in bytes.
const MaxSize = 1 << 20

// Seed is what a guest is told when it boots.
type Seed struct {
	Version        int             `json:"version"`
	Hostname       string          `json:"hostname"`
	HostKey        string          `json:"hostKey"`                // PEM of the SSH server's private key
	AuthorizedKeys []string        `json:"authorizedKeys"`         // of root
	EngineConfig   json.RawMessage `json:"engineConfig,omitempty"` // becomes config.File when there is none yet
}

// Event is a line from the guest's init.
type Event struct {
	Event string `json:"event"`           // "ssh" (SSH answers), "engine" (the engine answers on its socket), "failed", "poweroff"
	Error string `json:"error,omitempty"` // with "failed": what and why
}

// Command is a line from the host.
type Command struct {
	Time int64 `json:"time,omitempty"` // the host's clock, ns since 1970; the guest steps its clock when it is off by more than 100 ms
	// PowerOff asks for an orderly end, as the power button does.
	PowerOff bool `json:"poweroff,omitempty"`
}

// Files of a guest image folder, as `make guest` writes them.
const (
	Kernel   = "vmlinuz"
	Initrd   = "initrd"
	Root     = "root.erofs"
	Manifest = "manifest.json"
)

// Image describes a guest image folder; it is the content of Manifest.
type Image struct {
	Arch     string            `json:"arch"`    // GOARCH
	Kernel   string            `json:"kernel"`  // release, e.g. 6.1.0-49-cloud-amd64
	Cmdline  string            `json:"cmdline"` // kernel parameters; the driver adds its console's
	BerthdID string            `json:"berthd"`  // SHA-256 of the engine inside, hex
	Files    map[string]string `json:"files"`   // SHA-256 of each file, hex
}
