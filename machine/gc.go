package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
)

// Lost are the things of one account that bear this store's mark and belong to no machine that it knows.
type Lost struct {
	Driver  string
	Options drivers.Options // of the account
	Orphans []drivers.Orphan
}

// ErrNotCollector is the error about a driver that cannot find what it made.
var ErrNotCollector = errors.New("the driver keeps no list of what it made")

// Lost looks for what a driver has made and no machine knows. Unless the options name an account, it looks into those of the machines
// that there are.
func (m *Manager) Lost(ctx context.Context, driver string, given drivers.Options) ([]Lost, error) {
	d, c, err := m.collector(driver)
	if err != nil {
		return nil, err
	}
	accounts, known, err := m.accounts(driver, d, given)
	if err != nil {
		return nil, err
	}
	var all []Lost
	for _, o := range accounts {
		found, err := c.Orphans(ctx, m.nobody(driver, o), withDefaults(d, o), known)
		if err != nil {
			return nil, fmt.Errorf("looking for what %s has made: %w", driver, err)
		}
		if len(found) > 0 {
			all = append(all, Lost{Driver: driver, Options: o, Orphans: found})
		}
	}
	return all, nil
}

// Collect deletes what was found. It looks once more before: a machine that has been created meanwhile is lost no longer.
func (m *Manager) Collect(ctx context.Context, lost Lost) error {
	d, c, err := m.collector(lost.Driver)
	if err != nil {
		return err
	}
	_, known, err := m.accounts(lost.Driver, d, lost.Options)
	if err != nil {
		return err
	}
	h, o := m.nobody(lost.Driver, lost.Options), withDefaults(d, lost.Options)
	still, err := c.Orphans(ctx, h, o, known)
	if err != nil {
		return err
	}
	var errs []error
	for _, orphan := range lost.Orphans {
		if !slices.ContainsFunc(still, func(s drivers.Orphan) bool { return s.Kind == orphan.Kind && s.ID == orphan.ID }) {
			continue
		}
		end := m.Report.Step(orphan.Name, fmt.Sprintf("Removing %s %s", orphan.Kind, orphan.Name))
		err := c.Collect(ctx, h, o, orphan)
		end(err)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Catalog lists what a driver offers.
func (m *Manager) Catalog(ctx context.Context, driver, list string, given drivers.Options) (drivers.Catalog, error) {
	d, err := m.Drivers.Get(driver)
	if err != nil {
		return drivers.Catalog{}, err
	}
	c, ok := d.(drivers.Cataloger)
	if !ok {
		return drivers.Catalog{}, fmt.Errorf("the driver %s has no lists to choose from", driver)
	}
	return c.Catalog(ctx, m.nobody(driver, given), withDefaults(d, given), list)
}

func (m *Manager) collector(driver string) (drivers.Driver, drivers.Collector, error) {
	d, err := m.Drivers.Get(driver)
	if err != nil {
		return nil, nil, err
	}
	c, ok := d.(drivers.Collector)
	if !ok {
		return nil, nil, fmt.Errorf("%s: %w", driver, ErrNotCollector)
	}
	return d, c, nil
}

// accounts are the options by which a driver's accounts can be reached, and the records of its machines. A record that cannot be
// read is an error: what belongs to that machine would seem to be lost.
func (m *Manager) accounts(driver string, d drivers.Driver, given drivers.Options) (accounts []drivers.Options, known []json.RawMessage, err error) {
	entries, err := m.Store.List()
	if err != nil {
		return nil, nil, err
	}
	whole := namesAccount(d, given)
	seen := map[string]bool{}
	for _, e := range entries {
		if e.Err != nil {
			return nil, nil, m.hint(fmt.Errorf("machine %q: %w; what belongs to it would be taken for lost", e.Name, e.Err), "Remove its files first: {berth} rm -f %s", e.Name)
		}
		if e.Machine.Driver != driver {
			continue
		}
		known = append(known, e.Machine.DriverState)
		o, err := recorded(d, e.Machine.DriverOptions)
		if err != nil {
			return nil, nil, fmt.Errorf("machine %q: %w", e.Name, err)
		}
		maps.Copy(o, given)
		if key := accountOf(d, o); !whole && !seen[key] {
			seen[key] = true
			accounts = append(accounts, o)
		}
	}
	if whole || len(accounts) == 0 && m.Store.Marked() { // else nothing can ever have been made
		accounts = append(accounts, given)
	}
	return accounts, known, nil
}

// namesAccount tells options that say by which secret to ask.
func namesAccount(d drivers.Driver, given drivers.Options) bool {
	for _, f := range d.Flags() {
		if f.Secret && (given.String(f.Name) != "" || referred(given, f.Name)) {
			return true
		}
	}
	return false
}

// accountOf is all that tells one account from another.
func accountOf(d drivers.Driver, o drivers.Options) string {
	var key strings.Builder
	for _, f := range d.Flags() {
		if f.Account {
			fmt.Fprintf(&key, "%v\n", o[f.Name])
		}
	}
	return key.String()
}

// nobody is a host for a driver's questions that are not about a machine.
func (m *Manager) nobody(driver string, given drivers.Options) *drivers.Host {
	rec := &hostdb.Machine{Driver: driver}
	h := m.host(nil, rec)
	h.Dir = existing(m.Store.Dir())
	h.Secret = m.secret(rec, given)
	return h
}
