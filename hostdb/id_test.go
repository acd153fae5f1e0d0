package hostdb

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestIDIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var err error
			if ids[i], err = New(dir).ID(t.Context()); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || len(id) != 16 {
			t.Errorf("IDs %q", ids)
		}
	}
	moved := dir + "2"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if id, err := New(moved).ID(t.Context()); id != ids[0] || err != nil {
		t.Errorf("moved: %q, %v", id, err)
	}
	if err := os.WriteFile(filepath.Join(moved, idFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if id, err := New(moved).ID(t.Context()); err == nil {
		t.Errorf("damaged: %q", id)
	}
}
