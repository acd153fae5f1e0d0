package machine

import (
	"context"
	"fmt"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
)

// Start powers a machine on and waits for its engine.
func (m *Manager) Start(ctx context.Context, name string) error {
	return m.locked(ctx, name, func(w *work) error {
		state, err := w.usable(ctx)
		if err != nil {
			return err
		}
		if state != drivers.Running {
			return w.start(ctx)
		}
		moved, err := w.locate(ctx)
		if err != nil {
			return err
		}
		if !moved {
			return &StateError{Name: name, State: state}
		}
		m.Report.Note(name, fmt.Sprintf("The address of %q is another: %s", name, w.rec.Endpoint.Address))
		return w.fail(w.provision(ctx))
	})
}

// locate asks where a machine that runs is, and records it; moved says that it is another address than before.
func (w *work) locate(ctx context.Context) (moved bool, err error) {
	l, ok := w.driver.(drivers.Locator)
	if !ok {
		return false, nil
	}
	ep, err := l.Locate(ctx, w.host)
	if err != nil || ep.Address == w.rec.Endpoint.Address {
		return false, nil // the machine runs, and that is what was asked for
	}
	if err := w.host.Save(w.host.State); err != nil {
		return false, err
	}
	if _, err := w.refreshEndpoint(); err != nil {
		return false, err
	}
	return true, w.lock.Put(w.rec)
}

func (w *work) start(ctx context.Context) error {
	if err := w.step(fmt.Sprintf("Starting %q", w.rec.Name), func() error { return w.driver.Start(ctx, w.host) }); err != nil {
		return err
	}
	return w.settle(ctx)
}

// Stop ends a machine in an orderly way.
func (m *Manager) Stop(ctx context.Context, name string) error {
	return m.end(ctx, name, "Stopping", func(ctx context.Context, w *work) error { return w.driver.Stop(ctx, w.host) })
}

// Kill cuts a machine's power.
func (m *Manager) Kill(ctx context.Context, name string) error {
	return m.end(ctx, name, "Killing", func(ctx context.Context, w *work) error {
		k, ok := w.driver.(drivers.Killer)
		if !ok {
			return m.hint(fmt.Errorf("the driver %s cannot kill a machine", w.rec.Driver), "Stop it: {berth} stop %s", name)
		}
		return k.Kill(ctx, w.host)
	})
}

func (m *Manager) end(ctx context.Context, name, act string, do func(context.Context, *work) error) error {
	return m.locked(ctx, name, func(w *work) error {
		state, err := w.state(ctx)
		if err != nil {
			return err
		}
		if state == drivers.Stopped {
			return &StateError{Name: name, State: state}
		}
		return w.step(fmt.Sprintf("%s %q", act, name), func() error { return do(ctx, w) })
	})
}

// Restart stops a machine if it runs, starts it, and waits for its engine.
func (m *Manager) Restart(ctx context.Context, name string) error {
	return m.locked(ctx, name, func(w *work) error {
		state, err := w.usable(ctx)
		if err != nil {
			return err
		}
		if state == drivers.Stopped {
			return w.start(ctx)
		}
		if r, ok := w.driver.(drivers.Restarter); ok {
			if err := w.step(fmt.Sprintf("Restarting %q", name), func() error { return r.Restart(ctx, w.host) }); err != nil {
				return err
			}
			return w.settle(ctx)
		}
		if err := w.step(fmt.Sprintf("Stopping %q", name), func() error { return w.driver.Stop(ctx, w.host) }); err != nil {
			return err
		}
		return w.start(ctx)
	})
}

// state asks the driver; a machine that is gone is an error.
func (w *work) state(ctx context.Context) (drivers.State, error) {
	state, err := w.driver.State(ctx, w.host)
	if err != nil {
		return state, fmt.Errorf("asking for the state of %q: %w", w.rec.Name, err)
	}
	if state == drivers.NotFound {
		return state, w.m.hint(fmt.Errorf("machine %q is gone: the driver %s does not know it any more", w.rec.Name, w.rec.Driver),
			"Remove its record: {berth} rm %s", w.rec.Name)
	}
	return state, nil
}

// usable is state of a machine whose creation is behind it.
func (w *work) usable(ctx context.Context) (drivers.State, error) {
	switch w.rec.Phase {
	case hostdb.Creating:
		return drivers.None, w.m.noAddress(w.rec.Name)
	case hostdb.Removing:
		return drivers.None, w.m.hint(fmt.Errorf("machine %q is being removed", w.rec.Name), "Finish that: {berth} rm %s", w.rec.Name)
	}
	return w.state(ctx)
}

// settle waits for the engine of a machine that has just booted. When the address is another, or the certificates do not fit,
// or provisioning never ended, it provisions.
func (w *work) settle(ctx context.Context) error {
	changed, err := w.refreshEndpoint()
	if err != nil {
		return err
	}
	if err := w.lock.Put(w.rec); err != nil {
		return err
	}
	if changed || w.rec.Phase != hostdb.Ready || w.rec.RenamedFrom != "" || w.certsDue(ctx) {
		return w.fail(w.provision(ctx))
	}
	if err := w.admitted(ctx); err != nil {
		return err
	}
	err = w.waitEngine(ctx)
	if isCertError(err) {
		return w.fail(w.provision(ctx))
	}
	return err
}

// certsDue tells whether the client's pair has to be renewed.
func (w *work) certsDue(ctx context.Context) bool {
	ca, err := w.m.authority(ctx)
	return err == nil && !w.m.clientFits(w.lock.Dir(), ca)
}
