package hostdb

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func lockT(t *testing.T, s *Store, name string) *Lock {
	t.Helper()
	l, err := s.Lock(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Unlock)
	return l
}

func sample(name string) *Machine {
	return &Machine{
		Name: name, Driver: "qemu", Phase: Provisioning, Created: time.Unix(1700000000, 0).UTC(),
		DriverState: json.RawMessage(`{"pid": 12345678901234567890}`),
		Endpoint:    &Endpoint{Address: "127.0.10.1", EnginePort: 2376, SSHHost: "127.0.10.1", SSHPort: 22, SSHUser: "root"},
		SANs:        []string{"web.example"},
	}
}

func TestCreateThenGet(t *testing.T) {
	s := New(t.TempDir())
	l := lockT(t, s, "web1")
	want := sample("web1")
	if err := l.Create(want); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get("web1")
	if err != nil {
		t.Fatal(err)
	}
	compact := cmp.Transformer("compact", func(r json.RawMessage) string { return strings.ReplaceAll(string(r), " ", "") })
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Machine{}, Endpoint{}), compact); d != "" {
		t.Errorf("what was read differs from what was written:\n%s", d)
	}
	if err := l.Create(want); !errors.Is(err, ErrExists) {
		t.Errorf("a second Create returned %v, want ErrExists", err)
	}
}

func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes: the user's own folder protects the store")
	}
	s := New(filepath.Join(t.TempDir(), "store"))
	l := lockT(t, s, "web1")
	if err := l.Create(sample("web1")); err != nil {
		t.Fatal(err)
	}
	want := map[string]os.FileMode{".": 0o700, "machines": 0o700, "machines/web1": 0o700, "machines/web1/machine.json": 0o600, "locks": 0o700}
	for path, mode := range want {
		info, err := os.Stat(filepath.Join(s.Dir(), path))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != mode {
			t.Errorf("%s has mode %o, want %o", path, got, mode)
		}
	}
}

func TestRewriteKeepsUnknownFields(t *testing.T) {
	s := New(t.TempDir())
	l := lockT(t, s, "web1")
	if err := l.Create(sample("web1")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.MachineDir("web1"), recordFile)
	doc := `{"version":1,"name":"web1","driver":"qemu","phase":"ready","Name":"other","team":{"id":12345678901234567890},
		"endpoint":{"address":"10.0.0.1","zone":"a"}}`
	if err := os.WriteFile(path, []byte(doc), fileMode); err != nil {
		t.Fatal(err)
	}
	m, err := l.Get()
	if err != nil {
		t.Fatal(err)
	}
	m.Endpoint.Address = "10.0.0.2"
	if err := l.Put(m); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`12345678901234567890`, `"zone": "a"`, `"address": "10.0.0.2"`, `"Name": "other"`, `"name": "web1"`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("the rewritten record lacks %s:\n%s", want, data)
		}
	}
}

func TestListShowsBrokenRecordsAsEntries(t *testing.T) {
	s := New(t.TempDir())
	for _, name := range []string{"web10", "web2", "garbage", "newer", "moved"} {
		if err := lockT(t, s, name).Create(sample(name)); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(s.Dir(), "machines", path)
		if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), fileMode); err != nil {
			t.Fatal(err)
		}
	}
	write("garbage/machine.json", "\x00\xff{")
	write("newer/machine.json", `{"version":99,"name":"newer","driver":"x"}`)
	write("moved/machine.json", `{"version":1,"name":"web2","driver":"x"}`)
	write("foreign/config.json", `{"ConfigVersion":3}`)
	write("leftover/disk.img", "x")
	write(".new-web3/machine.json", "{}")
	write("a-file", "x")
	if err := os.Mkdir(s.MachineDir("empty"), dirMode); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.MachineDir("dir"), ""), dirMode); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.MachineDir("dir"), recordFile), dirMode); err != nil {
		t.Fatal(err)
	}

	entries, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		row := e.Name
		if e.Err != nil {
			if !errors.Is(e.Err, ErrBroken) {
				t.Errorf("%s: %v does not wrap ErrBroken", e.Name, e.Err)
			}
			row += " broken"
		}
		got = append(got, row)
	}
	want := []string{"dir broken", "foreign broken", "garbage broken", "leftover broken", "moved broken", "newer broken", "web2", "web10"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMovedStore(t *testing.T) {
	root := t.TempDir()
	s := New(filepath.Join(root, "a"))
	l, err := s.Lock(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Create(sample("web1")); err != nil {
		t.Fatal(err)
	}
	l.Unlock()
	if err := os.Rename(filepath.Join(root, "a"), filepath.Join(root, "b")); err != nil {
		t.Fatal(err)
	}
	if _, err := New(filepath.Join(root, "b")).Get("web1"); err != nil {
		t.Error(err)
	}
}

func TestRemove(t *testing.T) {
	s := New(t.TempDir())
	l := lockT(t, s, "web1")
	if err := l.Create(sample("web1")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.Dir(), "disk.img"), []byte("x"), fileMode); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("web1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get after Remove: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(s.Dir(), "*", "*"))
	if err != nil || !slices.Equal(left, []string{filepath.Join(s.Dir(), "locks", "machines")}) {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	again := lockT(t, s, "web1")
	if err := again.Remove(); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
}

func TestLockShowsItsHolder(t *testing.T) {
	dir := t.TempDir()
	holder := New(dir)
	holder.Command = "berth create"
	l := lockT(t, holder, "web1")

	waiting := make(chan Holder, 1)
	waiter := New(dir)
	waiter.OnWait = func(_ string, h Holder) { waiting <- h }
	locked := make(chan error, 1)
	go func() {
		l, err := waiter.Lock(context.Background(), "web1")
		if err == nil {
			l.Unlock()
		}
		locked <- err
	}()
	h := <-waiting
	if h.Command != "berth create" || h.PID != os.Getpid() {
		t.Errorf("the holder is shown as %s", h)
	}
	l.Unlock()
	if err := <-locked; err != nil {
		t.Error(err)
	}
}

func TestLockWaitEndsWithItsContext(t *testing.T) {
	s := New(t.TempDir())
	lockT(t, s, "web1")
	ctx, cancel := context.WithCancel(t.Context())
	s.OnWait = func(string, Holder) { cancel() }
	if _, err := s.Lock(ctx, "web1"); !errors.Is(err, context.Canceled) {
		t.Errorf("Lock returned %v", err)
	}
	if l, err := s.Lock(t.Context(), "web2"); err != nil {
		t.Errorf("another machine's lock: %v", err)
	} else {
		l.Unlock()
	}
}

func TestLockAfterRemoveIsNotTheUnlinkedOne(t *testing.T) {
	s := New(t.TempDir())
	first := lockT(t, s, "web1")
	waiting := make(chan struct{})
	s.OnWait = func(string, Holder) { close(waiting) }
	got := make(chan *Lock, 1)
	go func() {
		l, err := s.Lock(context.Background(), "web1")
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	<-waiting
	if err := first.Remove(); err != nil {
		t.Fatal(err)
	}
	second := <-got
	defer second.Unlock()
	third := New(s.Dir())
	ctx, cancel := context.WithCancel(t.Context())
	third.OnWait = func(string, Holder) { cancel() }
	if _, err := third.Lock(ctx, "web1"); !errors.Is(err, context.Canceled) {
		t.Errorf("two hold the lock at once (%v)", err)
	}
}

func TestNames(t *testing.T) {
	good := []string{"a", "web1", "Web-1.example", "a..b", "com", "comet1", "console", "COM10"}
	bad := []string{"", ".", "..", "-a", ".a", "a/b", `a\b`, "a b", "a_b", "a:b", "ä", "a\n", "a.", "nul", "NUL.txt", "Com1", "lpt9.x", strings.Repeat("a", 64)}
	for _, name := range good {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	s := New(t.TempDir())
	for _, name := range bad {
		if CheckName(name) == nil {
			t.Errorf("%q is accepted", name)
		}
		if _, err := s.Get(name); err == nil {
			t.Errorf("Get(%q) succeeds", name)
		}
		if _, err := s.Lock(t.Context(), name); err == nil {
			t.Errorf("Lock(%q) succeeds", name)
		}
	}
}

func TestCompareNatural(t *testing.T) {
	want := []string{"a", "A1", "a1", "a2", "a02b", "a10", "a10b", "b", "b-1", "b1"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, CompareNatural)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestLocate(t *testing.T) {
	abs := func(p string) string { p, _ = filepath.Abs(p); return p }
	tests := []struct {
		name, flag, goos string
		env              map[string]string
		want             string
	}{
		{"flag wins", "x", "linux", map[string]string{"MACHINE_STORAGE_PATH": "/m"}, abs("x")},
		{"docker-machine's variable", "", "linux", map[string]string{"MACHINE_STORAGE_PATH": "/m", "BERTH_HOME": "/b"}, abs("/m")},
		{"ours", "", "linux", map[string]string{"BERTH_HOME": "/b"}, abs("/b")},
		{"XDG", "", "linux", map[string]string{"XDG_DATA_HOME": abs("/x"), "HOME": "/h"}, filepath.Join(abs("/x"), "berth")},
		{"relative XDG is invalid", "", "linux", map[string]string{"XDG_DATA_HOME": "x", "HOME": "/h"}, filepath.FromSlash("/h/.local/share/berth")},
		{"home", "", "linux", map[string]string{"HOME": "/h"}, filepath.FromSlash("/h/.local/share/berth")},
		{"macOS", "", "darwin", map[string]string{"HOME": "/h"}, filepath.FromSlash("/h/Library/Application Support/berth")},
		{"Windows", "", "windows", map[string]string{"LOCALAPPDATA": "/l"}, filepath.FromSlash("/l/berth")},
		{"nothing known", "", "linux", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Locate(tt.flag, func(k string) string { return tt.env[k] }, tt.goos)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version":1,"name":"web1","driver":"qemu","phase":"ready","endpoint":{"address":"1.2.3.4","x":1},"y":[]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"version":1,"name":"..","driver":"qemu","endpoint":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(data)
		if err != nil {
			return
		}
		first, err := m.Encode()
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		again, err := Decode(first)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v\n%s", err, first)
		}
		second, err := again.Encode()
		if err != nil || string(first) != string(second) {
			t.Fatalf("a rewrite changes the record (%v):\n%s\n%s", err, first, second)
		}
	})
}
