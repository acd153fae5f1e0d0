package hostdb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Get is Store.Get of the locked machine.
func (l *Lock) Get() (*Machine, error) { return l.store.Get(l.name) }

// Dir is the folder of the locked machine.
func (l *Lock) Dir() string { return l.store.MachineDir(l.name) }

// Create makes the folder and the record of a new machine at once: there is never one without the other. It fails with
// ErrExists if the name is taken.
func (l *Lock) Create(m *Machine) error {
	fresh := filepath.Join(l.store.machines(), ".new-"+l.name)
	if err := l.create(m, fresh); err != nil {
		return errors.Join(fmt.Errorf("recording machine %q: %w", l.name, err), os.RemoveAll(fresh))
	}
	return nil
}

func (l *Lock) create(m *Machine, fresh string) error {
	if l.store.Exists(l.name) {
		return ErrExists
	}
	data, err := l.encode(m)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(fresh); err != nil { // of a create that was killed
		return err
	}
	if err := os.MkdirAll(fresh, dirMode); err != nil {
		return err
	}
	if err := WriteFile(filepath.Join(fresh, recordFile), data, fileMode); err != nil {
		return err
	}
	if err := os.Remove(l.Dir()); err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty folder is no machine
		return err
	}
	if err := os.Rename(fresh, l.Dir()); err != nil {
		return err
	}
	return syncDir(l.store.machines())
}

func (l *Lock) encode(m *Machine) ([]byte, error) {
	if m.Name != l.name {
		return nil, fmt.Errorf("the record is of %q", m.Name)
	}
	m.Version = Version
	return m.Encode()
}

// Put replaces the record of a machine that exists. When it returns nil the record is on the disk; when it does not, the old
// record is still whole.
func (l *Lock) Put(m *Machine) error {
	data, err := l.encode(m)
	if err != nil {
		return fmt.Errorf("recording machine %q: %w", l.name, err)
	}
	l.clearTemps()
	if err := WriteFile(filepath.Join(l.Dir(), recordFile), data, fileMode); err != nil {
		return fmt.Errorf("recording machine %q: %w", l.name, err)
	}
	return nil
}

// clearTemps removes what writers left that were killed; the lock's holder is the only writer.
func (l *Lock) clearTemps() {
	left, _ := filepath.Glob(filepath.Join(l.Dir(), tempPattern))
	for _, path := range left {
		_ = os.Remove(path)
	}
}

// Remove deletes the machine's folder with all that is in it, and gives the lock up. A machine that is gone is no error.
func (l *Lock) Remove() error {
	if err := l.remove(); err != nil {
		return fmt.Errorf("deleting the files of machine %q: %w", l.name, err)
	}
	l.unlockAndForget()
	return nil
}

// remove first takes the folder out of sight: being cut off must not leave half a machine.
func (l *Lock) remove() error {
	trash := filepath.Join(l.store.machines(), ".removed-"+l.name)
	if err := os.RemoveAll(trash); err != nil {
		return err
	}
	err := os.Rename(l.Dir(), trash)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := syncDir(l.store.machines()); err != nil {
		return err
	}
	return os.RemoveAll(trash)
}
