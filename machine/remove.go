package machine

import (
	"context"
	"errors"
	"fmt"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/sshutil"
)

// RemoveOptions say how far Remove goes.
type RemoveOptions struct {
	// Broken lets it delete the files of a machine whose record cannot be read, although nobody can then tell the driver.
	Broken bool
	// Forget deletes the record without asking the driver, which may leave the machine itself behind.
	Forget bool
	// Uninstall removes the engine, with all containers, images and volumes, from a host that stays (see drivers.Adopter).
	Uninstall bool
}

// Remove has the driver delete the machine and all that was made for it, then deletes the record. When the driver fails, the
// record stays, so that it can be tried again.
func (m *Manager) Remove(ctx context.Context, name string, o RemoveOptions) error {
	l, err := m.Store.Lock(ctx, name)
	if err != nil {
		return m.lookupError(name, err)
	}
	defer l.Unlock()
	rec, err := l.Get()
	switch {
	case errors.Is(err, hostdb.ErrBroken):
		return m.removeBroken(l, name, o, err)
	case err != nil:
		return m.lookupError(name, err)
	case o.Forget:
		return m.forget(ctx, l, rec)
	}
	if err := m.removeMachine(ctx, l, rec, o); err != nil {
		return err
	}
	return m.forget(ctx, l, rec)
}

// forget removes what is here of a machine.
func (m *Manager) forget(ctx context.Context, l *hostdb.Lock, rec *hostdb.Machine) error {
	err := errors.Join(m.dropContext(rec), l.Remove())
	if rec.Endpoint != nil && rec.Endpoint.SSHOnly {
		m.tunnel(rec.Name).Forget(ctx)
	}
	return err
}

func (m *Manager) removeMachine(ctx context.Context, l *hostdb.Lock, rec *hostdb.Machine, o RemoveOptions) error {
	d, err := m.Drivers.Get(rec.Driver)
	if err != nil && nothingMade(rec) {
		return nil
	}
	if err != nil {
		return m.hint(err, "To drop the record and leave the machine as it is: {berth} rm --forget %s", rec.Name)
	}
	w := &work{m: m, lock: l, rec: rec, driver: d, host: m.host(l, rec)}
	_, stays := d.(drivers.Adopter)
	if o.Uninstall && !stays {
		return fmt.Errorf("--uninstall: %q is deleted as a whole by its driver %s; nothing was done", rec.Name, rec.Driver)
	}
	if err := w.put(hostdb.Removing); err != nil {
		return err
	}
	if o.Uninstall {
		if err := w.uninstall(ctx); err != nil {
			return m.hint(w.fail(err), "To try again: {berth} rm --uninstall %s. To leave the host as it is: {berth} rm %s", rec.Name, rec.Name)
		}
	}
	err = w.step(fmt.Sprintf("Removing %q", rec.Name), func() error { return d.Remove(ctx, w.host) })
	return m.hint(w.fail(err), "%q is kept; to try again: {berth} rm %s. To drop the record and leave the machine as it is: {berth} rm --forget %s",
		rec.Name, rec.Name, rec.Name)
}

// uninstall removes the engine from a host that stays.
func (w *work) uninstall(ctx context.Context) error {
	return w.step(fmt.Sprintf("Uninstalling the engine from %q", w.rec.Name), func() error {
		ep, err := w.m.SSHEndpoint(w.rec)
		if err != nil {
			return err
		}
		c, err := sshutil.Dial(ctx, ep)
		if err != nil {
			return err
		}
		defer c.Close()
		return w.m.uninstaller()(ctx, c)
	})
}

// Stays reports whether removing a machine leaves the host itself alone, and where that is.
func (m *Manager) Stays(name string) (address string, stays bool) {
	rec, d, err := m.load(name)
	if err != nil {
		return "", false
	}
	if _, stays = d.(drivers.Adopter); stays && rec.Endpoint != nil {
		address = rec.Endpoint.Address
	}
	return address, stays
}

// nothingMade: a driver saves its state before any side effect.
func nothingMade(rec *hostdb.Machine) bool { return len(rec.DriverState) == 0 }

// removeBroken deletes what is here of a machine of which nobody knows how to delete the rest.
func (m *Manager) removeBroken(l *hostdb.Lock, name string, o RemoveOptions, cause error) error {
	if !o.Broken && !o.Forget {
		return m.hint(fmt.Errorf("machine %q: %w", name, cause), "To delete its files, and leave the machine as it is: {berth} rm -f %s", name)
	}
	if err := l.Remove(); err != nil {
		return err
	}
	if o.Forget {
		return nil
	}
	return fmt.Errorf("the files of %q are deleted, but not what its driver may have made: %w", name, cause)
}
