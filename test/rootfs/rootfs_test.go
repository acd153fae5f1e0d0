//go:build linux

package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"
)

func TestKeyIsStable(t *testing.T) {
	recipe := fstest.MapFS{"packages": {Data: []byte("udev")}}
	a, err := Key(recipe, "1")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := Key(recipe, "1"); err != nil || a != b || len(a) != 12 {
		t.Errorf("keys %q and %q, %v", a, b, err)
	}
	if b, err := Key(recipe, "2"); err != nil || a == b {
		t.Errorf("keys %q and %q, %v", a, b, err)
	}
}

func TestKeepMakesOnceAndWhole(t *testing.T) {
	cache, made := t.TempDir(), 0
	errHalf := errors.New("half")
	keep := func(err error) (string, error) {
		return Keep(t.Context(), cache, "debian", "1", func(tmp string) error {
			made++
			return errors.Join(os.WriteFile(filepath.Join(tmp, "out", "disk"), nil, 0o600), err)
		})
	}
	if dir, err := keep(errHalf); !errors.Is(err, errHalf) {
		t.Errorf("%s, %v", dir, err)
	}
	for range 2 {
		dir, err := keep(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "disk")); err != nil {
			t.Error(err)
		}
	}
	if made != 2 {
		t.Errorf("made %d times", made)
	}
	if _, err := os.Stat(making(cache, "debian")); err == nil {
		t.Error("what it was made in is left")
	}
}

func TestWhatIsInUseStays(t *testing.T) {
	cache := t.TempDir()
	for name, age := range map[string]time.Duration{"debian-used": time.Hour, "debian-old": 2 * unusedFor, "making.debian": 0, "run-1": 2 * unusedFor} {
		dir := filepath.Join(cache, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(dir, then, then); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeOld(cache, "debian"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"debian-used": true, "debian-old": false, "making.debian": false, "run-1": true} {
		if _, err := os.Stat(filepath.Join(cache, name)); (err == nil) != want {
			t.Errorf("%s is there: %v", name, err == nil)
		}
	}
}
