package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
)

// CreateOptions are what a user asks for.
type CreateOptions struct {
	Name   string
	Driver string
	// Options of the driver that were set, by flag or environment; the others take their defaults.
	Options drivers.Options
	Engine  EngineOptions
	SANs    []string // further names of the engine's certificate
	DryRun  bool     // only check, and show what would be done
	Context bool     // make a docker context, too
}

// Create makes a machine and installs the engine. Called again after it was interrupted or failed, it goes on where it
// stopped; the options are then those recorded, replaced by the ones given now.
func (m *Manager) Create(ctx context.Context, o CreateOptions) error {
	if err := hostdb.CheckName(o.Name); err != nil {
		return fmt.Errorf("Error creating machine: %w", err) //nolint:staticcheck // docker-machine's words
	}
	d, err := m.Drivers.Get(o.Driver)
	if err != nil {
		return err
	}
	engine, err := o.Engine.config(o.Driver)
	if err != nil {
		return err
	}
	if o.Context {
		if err := m.checkContext(o.Name); err != nil {
			return err
		}
	}
	if o.DryRun && m.Store.Exists(o.Name) {
		return &ExistsError{Name: o.Name}
	}
	if o.DryRun { // a lock would be a file
		return m.createNew(ctx, nil, d, o, engine)
	}
	l, err := m.Store.Lock(ctx, o.Name)
	if err != nil {
		return err
	}
	defer l.Unlock()
	rec, err := l.Get()
	switch {
	case errors.Is(err, hostdb.ErrNotFound):
		return m.createNew(ctx, l, d, o, engine)
	case err != nil:
		return m.hint(&ExistsError{Name: o.Name}, "its record cannot be used: %v", err)
	case rec.Phase == hostdb.Creating || rec.Phase == hostdb.Provisioning:
		return m.resume(ctx, l, d, rec, o)
	case rec.Phase == hostdb.Removing:
		return m.hint(&ExistsError{Name: o.Name}, "its removal was interrupted; finish it first: {berth} rm %s", o.Name)
	}
	return &ExistsError{Name: o.Name}
}

// createNew checks, records, and makes; nothing is written before the driver has agreed.
func (m *Manager) createNew(ctx context.Context, l *hostdb.Lock, d drivers.Driver, o CreateOptions, engine []byte) error {
	options := withDefaults(d, o.Options)
	rec := &hostdb.Machine{
		Name: o.Name, Driver: o.Driver, Phase: hostdb.Creating, Created: m.Now().UTC(),
		SANs: o.SANs, Engine: engine, Context: o.Context,
	}
	if err := m.check(ctx, d, rec, options); err != nil {
		return err
	}
	if err := m.preview(ctx, d, rec, o, options); err != nil || o.DryRun {
		return err
	}
	raw, err := recordable(d, o.Options)
	if err != nil {
		return err
	}
	rec.DriverOptions = raw
	if err := l.Create(rec); err != nil {
		return err
	}
	if err := writeEngineEnv(l.Dir(), o.Engine.env()); err != nil {
		return m.interrupted(o.Name, err)
	}
	w, err := m.work(l, rec, d)
	if err != nil {
		return m.interrupted(o.Name, err)
	}
	w.host.Secret = m.secret(rec, o.Options)
	return m.interrupted(o.Name, w.fail(w.create(ctx, options)))
}

// check asks the driver, which makes nothing, whether it can create.
func (m *Manager) check(ctx context.Context, d drivers.Driver, rec *hostdb.Machine, o drivers.Options) error {
	end := m.Report.Step(rec.Name, "Checking")
	h := m.host(nil, rec)
	h.Dir = existing(h.Dir)
	h.Secret = m.secret(rec, o)
	err := d.Check(ctx, h, o)
	end(err)
	if err != nil && ctx.Err() == nil {
		return m.refused(err)
	}
	if err == nil {
		m.unrecorded(rec, d, o)
	}
	return err
}

// existing is the nearest folder, at or above dir, that exists.
func existing(dir string) string {
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// resume finishes an interrupted create.
func (m *Manager) resume(ctx context.Context, l *hostdb.Lock, d drivers.Driver, rec *hostdb.Machine, o CreateOptions) error {
	if rec.Driver != o.Driver {
		return m.hint(&ExistsError{Name: o.Name}, "its creation with the driver %s was interrupted; finish or remove it:\n{berth} create -d %s %s\n{berth} rm %s",
			rec.Driver, rec.Driver, o.Name, o.Name)
	}
	m.Report.Note(rec.Name, fmt.Sprintf("Resuming the creation of %q, which was interrupted while %s", rec.Name, rec.Phase))
	w, err := m.work(l, rec, d)
	if err != nil {
		return err
	}
	asked, err := w.replan(o)
	if err != nil {
		return err
	}
	w.host.Secret = m.secret(rec, o.Options)
	return m.interrupted(rec.Name, w.fail(w.finish(ctx, withDefaults(d, asked))))
}

// replan has options that are given now take the place of those that were given before, and returns the driver's. Those that
// cannot any more are refused by name, and the record stays as it was.
func (w *work) replan(o CreateOptions) (drivers.Options, error) {
	asked, err := recorded(w.driver, w.rec.DriverOptions)
	if err != nil {
		return nil, fmt.Errorf("machine %q: %w", w.rec.Name, err)
	}
	changed, err := w.differing(asked, o.Options)
	if err != nil {
		return nil, err
	}
	old, err := w.settings()
	if err != nil {
		return nil, err
	}
	installed := w.rec.Phase != hostdb.Creating
	next, err := old.change(SetOptions{Engine: o.Engine, StorageDriver: o.Engine.StorageDriver != "", SANs: o.SANs, fresh: !installed}, w.rec.Driver)
	if err != nil {
		return nil, err
	}
	maps.Copy(asked, o.Options)
	raw, err := recordable(w.driver, asked)
	if err != nil {
		return nil, err
	}
	w.rec.DriverOptions, w.rec.Context = raw, w.rec.Context || o.Context
	if changed {
		w.rec.Phase = hostdb.Creating // the driver must hear of it
	}
	if err := w.record(next); err != nil {
		return nil, err
	}
	return asked, w.lock.Put(w.rec)
}

// differing tells whether options given now differ from those of before; it is an error if one cannot change any more.
func (w *work) differing(before, now drivers.Options) (changed bool, err error) {
	var settled []string
	if s, ok := w.driver.(drivers.Settler); ok {
		if settled, err = s.Settled(w.host); err != nil {
			return false, err
		}
	}
	all := withDefaults(w.driver, before)
	for _, f := range w.driver.Flags() {
		v, given := now[f.Name]
		switch {
		case !given || f.Secret || reflect.DeepEqual(v, all[f.Name]):
		case slices.Contains(settled, f.Name):
			return false, w.m.hint(fmt.Errorf("--%s %v: %q is being made with %s, which cannot change any more", f.Name, v, w.rec.Name, shown(all[f.Name])),
				"To go on, leave it out; to begin anew: {berth} rm %s", w.rec.Name)
		default:
			changed = true
		}
	}
	return changed, nil
}

// shown is an option's value in words.
func shown(v any) string {
	if text := fmt.Sprint(v); text != "" && text != "[]" {
		return text
	}
	return "none"
}

// finish does what is left of a create.
func (w *work) finish(ctx context.Context, options drivers.Options) error {
	if w.rec.Phase == hostdb.Creating {
		return w.create(ctx, options)
	}
	state, err := w.driver.State(ctx, w.host)
	if err != nil {
		return fmt.Errorf("asking for the state of %q: %w", w.rec.Name, err)
	}
	if state == drivers.NotFound {
		w.rec.HostKeys = nil // were of the one that is gone
		return w.create(ctx, options)
	}
	if state != drivers.Running {
		if err := w.step("Starting the machine", func() error { return w.driver.Start(ctx, w.host) }); err != nil {
			return err
		}
	}
	return w.provision(ctx)
}

// create has the driver make the machine, and provisions it.
func (w *work) create(ctx context.Context, options drivers.Options) error {
	if err := w.put(hostdb.Creating); err != nil {
		return err
	}
	if err := w.step("Creating the machine", func() error { return w.driver.Create(ctx, w.host, options) }); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return w.provision(ctx)
}

// interrupted says what can be done with a machine whose creation ended early.
func (m *Manager) interrupted(name string, err error) error {
	if err == nil {
		return nil
	}
	var hinted *HintError
	if errors.As(err, &hinted) {
		return err
	}
	return m.hint(err, "%q is kept as far as it came. To go on, give the same command again; to remove it: {berth} rm %s", name, name)
}

// withDefaults fills in what was not asked for.
func withDefaults(d drivers.Driver, asked drivers.Options) drivers.Options {
	all := drivers.Options{}
	for _, f := range d.Flags() {
		all[f.Name] = f.Default
	}
	maps.Copy(all, asked)
	return all
}

// recordable is what may stay of the options: no secrets.
func recordable(d drivers.Driver, asked drivers.Options) (json.RawMessage, error) {
	keep := maps.Clone(asked)
	for _, f := range d.Flags() {
		if f.Secret {
			delete(keep, f.Name)
		}
	}
	if len(keep) == 0 {
		return nil, nil
	}
	raw, err := json.Marshal(keep)
	if err != nil {
		return nil, fmt.Errorf("recording the driver's options: %w", err)
	}
	return raw, nil
}

// DriverOptions are the options that a machine was made with, as far as they are recorded.
func (m *Manager) DriverOptions(rec *hostdb.Machine) (drivers.Options, error) {
	d, err := m.Drivers.Get(rec.Driver)
	if err != nil {
		return nil, err
	}
	return recorded(d, rec.DriverOptions)
}

// recorded is the inverse of recordable; each value takes its flag's type, which JSON does not keep.
func recorded(d drivers.Driver, raw json.RawMessage) (drivers.Options, error) {
	asked := drivers.Options{}
	if len(raw) == 0 {
		return asked, nil
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(raw, &values); err != nil {
		return nil, fmt.Errorf("the recorded options: %w", err)
	}
	for _, f := range d.Flags() {
		raw, ok := values[f.Name]
		if !ok {
			continue
		}
		v, err := decodeOption(f.Default, raw)
		if err != nil {
			return nil, fmt.Errorf("the recorded option %s: %w", f.Name, err)
		}
		asked[f.Name] = v
	}
	return asked, nil
}

func decodeOption(like any, raw json.RawMessage) (any, error) {
	switch like.(type) {
	case int:
		return decodeAs[int](raw)
	case bool:
		return decodeAs[bool](raw)
	case []string:
		return decodeAs[[]string](raw)
	default:
		return decodeAs[string](raw)
	}
}

func decodeAs[T any](raw json.RawMessage) (any, error) {
	var v T
	err := json.Unmarshal(raw, &v)
	return v, err
}
