package machine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
)

// Row is one machine of a listing.
type Row struct {
	Name   string
	Driver string // "not found" when the record is broken
	State  drivers.State
	URL    string // empty when the machine does not run
	// Version of the engine, "Unknown" when it does not answer.
	Version string
	Error   string // one line
	Took    time.Duration
	Machine *hostdb.Machine // nil when the record is broken
}

// BrokenDriver stands for the driver of a broken record.
const BrokenDriver = "not found"

// unknownVersion stands for the version of an engine that does not answer.
const unknownVersion = "Unknown"

// Rows asks all machines of entries at the same time, each for at most limit, and returns for each a channel that yields its
// row once. They are in the order of entries.
func (m *Manager) Rows(ctx context.Context, entries []hostdb.Entry, limit time.Duration) []<-chan Row {
	rows := make([]<-chan Row, len(entries))
	for i, e := range entries {
		ch := make(chan Row, 1)
		rows[i] = ch
		go func() { ch <- m.row(ctx, e, limit) }()
	}
	return rows
}

func (m *Manager) row(ctx context.Context, e hostdb.Entry, limit time.Duration) Row {
	if e.Err != nil {
		return Row{Name: e.Name, Driver: BrokenDriver, State: drivers.Error, Error: oneLine(e.Err)}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := m.Now()
	row := Row{Name: e.Name, Driver: e.Machine.Driver, Machine: e.Machine}
	done := make(chan Row, 1)
	go func() { done <- m.ask(ctx, row) }() // a driver may be late in obeying its context
	select {
	case row = <-done:
	case <-ctx.Done():
		row.State = drivers.Timeout
	}
	row.Took = m.Now().Sub(began).Round(time.Millisecond)
	return row
}

// ask fills in what only the driver and the engine know.
func (m *Manager) ask(ctx context.Context, row Row) Row {
	row.Version = unknownVersion
	d, err := m.Drivers.Get(row.Machine.Driver)
	if err == nil {
		row.State, err = d.State(ctx, m.host(nil, row.Machine))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		row.State = drivers.Timeout
		return row
	}
	if err != nil {
		row.State, row.Error = drivers.Error, oneLine(err)
		return m.askEngine(ctx, row)
	}
	row.Error = phaseProblem(row.Machine)
	if row.State != drivers.Running {
		if row.State == drivers.Error {
			m.warn(ctx, d, &row)
		}
		return row
	}
	row.URL = m.URL(row.Machine)
	c, err := m.engine(row.Machine)
	if err == nil {
		row.Version, err = c.version(ctx)
	}
	if err != nil {
		row.Version = unknownVersion
		if row.Error == "" {
			row.Error = m.whyUnknown(ctx, d, row.Machine, err)
		}
		return row
	}
	row.Version = "v" + row.Version
	m.warn(ctx, d, &row)
	return row
}

// whyUnknown says why an engine does not answer, and what to do where that is known.
func (m *Manager) whyUnknown(ctx context.Context, d drivers.Driver, rec *hostdb.Machine, err error) string {
	if l, ok := d.(drivers.Locator); ok {
		if ep, lerr := l.Locate(ctx, m.host(nil, rec)); lerr == nil && ep.Address != "" && ep.Address != rec.Endpoint.Address {
			return fmt.Sprintf("its address is %s now: %s start %s", ep.Address, m.Program, rec.Name)
		}
	}
	if isCertError(err) {
		return oneLine(fmt.Errorf("%w: %s regenerate-certs %s", err, m.Program, rec.Name))
	}
	return oneLine(err)
}

// warn adds what the driver knows to be wrong with a machine of which no error is known.
func (m *Manager) warn(ctx context.Context, d drivers.Driver, row *Row) {
	w, ok := d.(drivers.Warner)
	if !ok || row.Error != "" {
		return
	}
	if l, err := w.Warnings(ctx, m.host(nil, row.Machine)); err == nil {
		row.Error = squeeze(strings.Join(l, "; "))
	}
}

// phaseProblem says what is wrong with a machine that is not ready.
func phaseProblem(rec *hostdb.Machine) string {
	switch rec.Phase {
	case hostdb.Ready:
		if rec.RenamingTo != "" {
			return "its renaming to " + rec.RenamingTo + " was interrupted"
		}
		return ""
	case hostdb.Removing:
		return joinReason("not removed yet", rec.Error)
	default:
		return joinReason("not ready: interrupted while "+string(rec.Phase), rec.Error)
	}
}

func joinReason(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + squeeze(why)
}

func oneLine(err error) string { return squeeze(err.Error()) }

// squeeze makes one line of a text, and bounds it: an error may hold the tail of a console.
func squeeze(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 300 {
		s = string(r[:300]) + "…"
	}
	return s
}
