package machine

import (
	"context"
	"errors"
	"fmt"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
)

// Rename gives a machine another name: with its driver, in the store, in its certificate and in its docker context. Cut off at any
// moment it leaves the machine usable by one of the names, and can be given again; what is left to do to a machine that has its
// new name already, the next provision or start does.
func (m *Manager) Rename(ctx context.Context, name, as string) error {
	if _, err := m.Record(name); err != nil {
		return err
	}
	from, to, err := m.lockBoth(ctx, name, as)
	if err != nil {
		return err
	}
	defer from.Unlock()
	defer to.Unlock()
	rec, d, err := m.load(name)
	if err != nil {
		return err
	}
	w, err := m.work(from, rec, d)
	if err != nil {
		return err
	}
	if err := w.rename(ctx, to, as); err != nil {
		return err
	}
	w.lock, w.host = to, m.host(to, rec)
	if w.host.Keys, err = ensureKeys(to.Dir(), as); err != nil {
		return err
	}
	return w.settleName(ctx)
}

// lockBoth locks two names, always in the same order: two renames must not wait for each other.
func (m *Manager) lockBoth(ctx context.Context, name, as string) (from, to *hostdb.Lock, err error) {
	if err := hostdb.CheckName(as); err != nil {
		return nil, nil, fmt.Errorf("the name %q: %w", as, err)
	}
	if name == as {
		return nil, nil, fmt.Errorf("machine %q is called so already", name)
	}
	first, second := name, as
	if first > second {
		first, second = second, first
	}
	a, err := m.Store.Lock(ctx, first)
	if err != nil {
		return nil, nil, err
	}
	b, err := m.Store.Lock(ctx, second)
	if err != nil {
		a.Unlock()
		return nil, nil, err
	}
	if first == name {
		return a, b, nil
	}
	return b, a, nil
}

// rename does what is to be done by the old name.
func (w *work) rename(ctx context.Context, to *hostdb.Lock, as string) error {
	r, err := w.renamable(as)
	if err != nil {
		return err
	}
	w.rec.RenamingTo = as
	if err := w.lock.Put(w.rec); err != nil {
		return err
	}
	err = w.step(fmt.Sprintf("Renaming %q", w.rec.Name), func() error { return r.Rename(ctx, w.host, as) })
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil && ctx.Err() == nil {
		w.rec.RenamingTo = "" // the user is told
		return errors.Join(w.m.advise(err), w.lock.Put(w.rec))
	}
	if err != nil {
		return w.m.hint(err, "%q is still called so. To go on: {berth} rename %s %s", w.rec.Name, w.rec.Name, as)
	}
	return w.lock.Rename(w.rec, to)
}

// renamable refuses, before anything is done, what cannot be renamed.
func (w *work) renamable(as string) (drivers.Renamer, error) {
	r, ok := w.driver.(drivers.Renamer)
	switch {
	case !ok:
		return nil, fmt.Errorf("the driver %s cannot rename a machine", w.rec.Driver)
	case w.m.Store.Exists(as):
		return nil, &ExistsError{Name: as}
	case w.rec.Phase == hostdb.Removing:
		return nil, w.m.hint(fmt.Errorf("machine %q is being removed", w.rec.Name), "Finish that: {berth} rm %s", w.rec.Name)
	case w.rec.Phase != hostdb.Ready:
		return nil, w.m.hint(fmt.Errorf("machine %q is not ready: it was interrupted while %s", w.rec.Name, w.rec.Phase), "Finish that: {berth} provision %s", w.rec.Name)
	case w.rec.Context:
		return r, w.m.checkContext(as)
	}
	return r, nil
}

// settleName has all that bears the name follow the record. The certificate of a machine that does not run follows when it starts.
func (w *work) settleName(ctx context.Context) error {
	if w.rec.Endpoint != nil && w.rec.Endpoint.SSHOnly {
		w.m.tunnel(w.rec.RenamedFrom).Forget(ctx)
	}
	if err := w.followName(); err != nil {
		return err
	}
	if !hasSSH(w.rec) {
		w.rec.RenamedFrom = ""
		return w.lock.Put(w.rec)
	}
	state, err := w.driver.State(ctx, w.host)
	if err != nil || state != drivers.Running {
		w.m.Report.Note(w.rec.Name, fmt.Sprintf("The certificate follows when %q is started or provisioned.", w.rec.Name))
		return nil
	}
	w.up = true
	return w.m.hint(w.fail(w.provision(ctx)), "The machine is called %q now. To have its certificate follow: {berth} provision %s", w.rec.Name, w.rec.Name)
}

// followName has the docker context of a machine that was renamed go by the new name.
func (w *work) followName() error {
	if err := w.followContext(); err != nil || !w.rec.Context || w.rec.RenamedFrom == "" || w.m.Store.Exists(w.rec.RenamedFrom) {
		return err
	}
	return w.m.dropContext(&hostdb.Machine{Name: w.rec.RenamedFrom, Context: true})
}
