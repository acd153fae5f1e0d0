package hostdb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Rename gives the locked machine the name that to locks, and returns its record. That it is to be called so must have been recorded
// (see Machine.RenamingTo), so that cut off at any moment there is the whole machine by one of the names. The lock l is given up.
// ErrExists is the error about a name that is taken.
func (l *Lock) Rename(m *Machine, to *Lock) error {
	old := m.Name
	if err := l.rename(m, to); err != nil {
		return fmt.Errorf("renaming machine %q to %q: %w", old, to.name, err)
	}
	l.unlockAndForget()
	return nil
}

func (l *Lock) rename(m *Machine, to *Lock) error {
	switch {
	case m.Name != l.name || m.RenamingTo != to.name:
		return errors.New("it has not been recorded")
	case l.store.Exists(to.name):
		return ErrExists
	}
	if err := os.Remove(to.Dir()); err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty folder is no machine
		return err
	}
	if err := os.Rename(l.Dir(), to.Dir()); err != nil {
		return err
	}
	if err := syncDir(l.store.machines()); err != nil {
		return err
	}
	m.renamed()
	return to.Put(m)
}

// renamed has a record follow its folder.
func (m *Machine) renamed() { m.Name, m.RenamedFrom, m.RenamingTo = m.RenamingTo, m.Name, "" }
