package drivers

import (
	"context"
	"encoding/json"
	"net/netip"
)

// Greeter is a driver that wants to know from which address this computer reaches a machine, e.g. to let in nobody else.
type Greeter interface {
	// Greeted tells the address as the machine sees it, each time that berth has connected in order to provision.
	Greeted(ctx context.Context, h *Host, from netip.Addr) error
	// Unreached is called when a machine does not answer at its SSH port, perhaps as this computer's address has changed. It may
	// let in any address until Greeted is called; it is no error if there is nothing that it could do.
	Unreached(ctx context.Context, h *Host) error
}

// Collector is a driver that can find what it has made and no machine of the store knows of any more.
type Collector interface {
	// Orphans lists what bears the mark of h's store (see Host.StoreID) and is of none of the machines whose recorded states are
	// given. h is no machine: it has no name and no state.
	Orphans(ctx context.Context, h *Host, o Options, known []json.RawMessage) ([]Orphan, error)
	// Collect deletes one of them. One that is gone already is no error.
	Collect(ctx context.Context, h *Host, o Options, orphan Orphan) error
}

// Orphan is something that costs money, perhaps, and that no machine knows of.
type Orphan struct {
	Kind   string `json:"kind"` // "droplet"
	ID     string `json:"id"`   // as the cloud knows it
	Name   string `json:"name"`
	Detail string `json:"detail,omitempty"` // one line: size, place, age
}

// Cataloger is a driver that can list what there is to choose from.
type Cataloger interface {
	// Catalogs names the lists: "sizes", "regions".
	Catalogs() []string
	// Catalog makes one of them. h is no machine.
	Catalog(ctx context.Context, h *Host, o Options, name string) (Catalog, error)
}

// Catalog is a list to choose from. Rows are in the order in which they are to be shown, and have a cell for each column.
type Catalog struct {
	Columns []string // in lower case, fit for keys: "price_monthly"
	Rows    [][]string
}

// Resizer is a driver that can give a machine another size. The machine need not be stopped; it runs afterwards if it ran before.
type Resizer interface {
	// Resize takes the driver's name of a size. A disk that has grown cannot shrink again; without disk it stays as it is.
	Resize(ctx context.Context, h *Host, size string, disk bool) error
}

// Renamer is a driver whose machines can get another name.
type Renamer interface {
	// Rename has the machine go by another name where the driver's things show one; h still has the old one. Afterwards the machine's
	// folder is that of the new name. Called again it does what is left, or takes another name still.
	Rename(ctx context.Context, h *Host, name string) error
}

// Snapshotter is a driver that can keep a copy of a machine's disk, from which other machines can be made.
type Snapshotter interface {
	// Snapshot returns what to give as the image of a new machine.
	Snapshot(ctx context.Context, h *Host, name string) (image string, err error)
}
