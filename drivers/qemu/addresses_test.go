package qemu

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/qemu/lan"
)

func storeHost(t *testing.T, store, name string) *drivers.Host {
	t.Helper()
	h := &drivers.Host{Name: name, Dir: filepath.Join(store, "machines", name)}
	h.Save = func(s json.RawMessage) error { return nil }
	if err := os.MkdirAll(h.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAddressesAreMachinesOwn(t *testing.T) {
	d := New(Config{}).(*Driver)
	store := t.TempDir()
	var mu sync.Mutex
	var wg sync.WaitGroup
	byIndex := map[int]string{}
	for i := range 8 {
		h := storeHost(t, store, fmt.Sprint("m", i))
		wg.Go(func() {
			s := &state{}
			if err := d.assign(t.Context(), h, s); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if other, taken := byIndex[s.Index]; taken {
				t.Errorf("%s and %s have the index %d", other, h.Name, s.Index)
			}
			byIndex[s.Index] = h.Name
			if ip := netip.MustParseAddr(s.HostIP); !ip.IsLoopback() || s.SSHPort == 0 || s.EnginePort == 0 {
				t.Errorf("%s: %+v", h.Name, s)
			}
		})
	}
	wg.Wait()
	h := storeHost(t, store, "m3")
	again := &state{}
	if err := d.assign(t.Context(), h, again); err != nil || byIndex[again.Index] != "m3" {
		t.Errorf("m3 gets another's index %d, %v", again.Index, err)
	}
	if err := d.release(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	heir := &state{}
	if err := d.assign(t.Context(), storeHost(t, store, "heir"), heir); err != nil || heir.Index != again.Index {
		t.Errorf("the index %d that was given back is not given out again, but %d, %v", again.Index, heir.Index, err)
	}
}

func TestIndexOfAMachineWithoutFolderIsFree(t *testing.T) {
	d := New(Config{}).(*Driver)
	store := t.TempDir()
	h := storeHost(t, store, "gone")
	s := &state{}
	if err := d.assign(t.Context(), h, s); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(h.Dir)
	next := &state{}
	if err := d.assign(t.Context(), storeHost(t, store, "next"), next); err != nil || next.Index != s.Index {
		t.Errorf("next has the index %d, %v", next.Index, err)
	}
}

func TestFullStore(t *testing.T) {
	store := t.TempDir()
	a := &addresses{ID: "00000000", Machines: map[int]string{}}
	for i := lan.First; i <= lan.Last; i++ {
		a.Machines[i] = "machines"
	}
	os.Mkdir(filepath.Join(store, "machines"), 0o700)
	if err := a.pick(&state{}, store, "machines/x"); err == nil || !strings.Contains(err.Error(), "249 addresses") {
		t.Errorf("got %v", err)
	}
}

func TestBrokenAddressesAreNamed(t *testing.T) {
	d := New(Config{}).(*Driver)
	store := t.TempDir()
	os.MkdirAll(filepath.Join(store, "qemu"), 0o700)
	path := filepath.Join(store, "qemu", "addresses.json")
	os.WriteFile(path, []byte(`{"version":`), 0o600)
	if err := d.assign(t.Context(), storeHost(t, store, "m"), &state{}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func TestRunFolder(t *testing.T) {
	d := New(Config{}).(*Driver)
	short, err := os.MkdirTemp("", "r")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(short)
	dir, err := d.runDir(storeHost(t, short, "m"))
	if err != nil || dir != filepath.Join(short, "qemu", "run") {
		t.Errorf("got %q, %v", dir, err)
	}
	t.Setenv("TMPDIR", short)
	t.Setenv("TMP", short)
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	dir, err = d.runDir(storeHost(t, long, "m"))
	if err != nil || !strings.HasPrefix(dir, short) || len(dir) > 80 {
		t.Errorf("of a long path: %q, %v", dir, err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := d.runDir(storeHost(t, long, "m")); err == nil && os.Getuid() >= 0 {
		t.Error("a folder that others can enter is taken")
	}
}
