package dosim

import (
	"context"
	"net/http"
	"net/netip"
	"time"
)

// Machines boots what the API calls droplets. The server never calls two methods for the same machine at once, but for PowerOff and
// Remove, which may come while a Shutdown waits.
type Machines interface {
	// Public is the network that the public addresses are taken from, seen from the host. Its first address is the gateway, its last
	// the host's.
	Public() netip.Prefix
	// Start turns a machine on, made first if it is new. The channel is closed when it is off, for whatever reason.
	Start(ctx context.Context, m Machine) (off <-chan struct{}, err error)
	// Shutdown asks the machine to turn itself off, and waits until it has or ctx ends.
	Shutdown(ctx context.Context, id int) error
	// PowerOff turns it off at once; one that is off is left so.
	PowerOff(id int) error
	// Reset is the button on the case.
	Reset(id int) error
	// Remove turns it off and removes all of it.
	Remove(id int) error
	// Protect replaces what traffic the machines' firewalls let through, and which other addresses lead to a machine's public one.
	// A machine that is not named is open.
	Protect(p []Policy, reserved map[netip.Addr]netip.Addr) error
	// ResetSSH answers all TCP from and to port 22 of an address with a reset, for d.
	ResetSSH(address netip.Addr, d time.Duration) error
}

// Machine is all that decides how a droplet boots.
type Machine struct {
	ID       int
	Name     string
	Memory   int  // MiB
	Public   *NIC // eth0; nil if the droplet has no public network
	Private  NIC  // eth1
	VPC      string
	Snapshot int          // id of the snapshot that its disk is a copy of; 0 for a fresh one
	Volumes  []Volume     // attached from the start
	Metadata http.Handler // what it is told at 169.254.169.254
}

// NIC is a network device of a machine.
type NIC struct {
	MAC     string
	Address netip.Addr
}

// Policy is what the firewalls of a droplet let through. Connections that exist stay.
type Policy struct {
	ID                int
	Address           netip.Addr // the public one
	Inbound, Outbound []Rule
}

// Rule allows traffic from, or to, some addresses.
type Rule struct {
	Protocol  string // tcp, udp or icmp
	First     int    // the first and last port; 0 and 65535 for all
	Last      int
	Addresses []netip.Prefix
}

// Storage is what Machines may offer besides: disks that outlive a machine.
type Storage interface {
	// Snapshot copies a machine's disk as it is now, for later machines that name it.
	Snapshot(ctx context.Context, id, snapshot int) error
	// DropSnapshot removes the copy.
	DropSnapshot(snapshot int) error
	// Attach gives a volume to a machine that is on; the volume is made first if it is new.
	Attach(ctx context.Context, id int, v Volume) error
	// Detach takes it away, and returns when the machine has let go.
	Detach(ctx context.Context, id int, volume string) error
	// Grow makes a volume as large as v says. id is the machine that it is attached to, 0 for none.
	Grow(ctx context.Context, id int, v Volume) error
	// DropVolume removes a volume that is not attached.
	DropVolume(volume string) error
}

// Volume is a disk.
type Volume struct {
	ID, Name   string
	Size       int    // GiB
	Filesystem string // to be made on it when it is new: ext4, xfs or none
	Label      string // of the file system
}
