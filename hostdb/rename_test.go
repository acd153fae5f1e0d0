package hostdb

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// intend records that web1 is to be called web2, and returns the locks of both.
func intend(t *testing.T, s *Store) (m *Machine, from, to *Lock) {
	t.Helper()
	from, to = lockT(t, s, "web1"), lockT(t, s, "web2")
	m = sample("web1")
	m.RenamingTo = "web2"
	if err := from.Create(m); err != nil {
		t.Fatal(err)
	}
	return m, from, to
}

func TestRename(t *testing.T) {
	s := New(t.TempDir())
	m, from, to := intend(t, s)
	if err := os.Mkdir(to.Dir(), dirMode); err != nil { // an empty folder is no machine
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from.Dir(), "disk.img"), []byte("x"), fileMode); err != nil {
		t.Fatal(err)
	}
	if err := from.Rename(m, to); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get("web2")
	if err != nil || got.Name != "web2" || got.RenamedFrom != "web1" || got.RenamingTo != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(to.Dir(), "disk.img")); err != nil {
		t.Error(err)
	}
	if _, err := s.Get("web1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the old name: %v", err)
	}
	if l := lockT(t, s, "web1"); l.Create(sample("web1")) != nil {
		t.Error("the old name is not free")
	}
}

// TestRenameCutOff: by one of its names there is the machine, whatever has been done of its renaming.
func TestRenameCutOff(t *testing.T) {
	s := New(t.TempDir())
	_, from, to := intend(t, s)
	if m, err := s.Get("web1"); err != nil || m.Name != "web1" {
		t.Fatalf("before the folder is renamed: %+v, %v", m, err)
	}
	if err := os.Rename(from.Dir(), to.Dir()); err != nil {
		t.Fatal(err)
	}
	m, err := to.Get()
	if err != nil || m.Name != "web2" || m.RenamedFrom != "web1" || m.RenamingTo != "" {
		t.Fatalf("after the folder was renamed: %+v, %v", m, err)
	}
	if list, err := s.List(); err != nil || len(list) != 1 || list[0].Err != nil || list[0].Machine.Name != "web2" {
		t.Errorf("the list: %+v, %v", list, err)
	}
	if err := to.Put(m); err != nil {
		t.Error(err)
	}
}

func TestRenameRefuses(t *testing.T) {
	s := New(t.TempDir())
	m, from, to := intend(t, s)
	if err := to.Create(sample("web2")); err != nil {
		t.Fatal(err)
	}
	if err := from.Rename(m, to); !errors.Is(err, ErrExists) {
		t.Errorf("a name that is taken: %v", err)
	}
	if err := from.Rename(m, lockT(t, s, "web3")); err == nil {
		t.Error("a name that was not recorded is taken")
	}
	if got, err := s.Get("web1"); err != nil || got.Name != "web1" {
		t.Errorf("%+v, %v", got, err)
	}
}
