package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"

	"github.com/getberth/berth/engine/filter"
)

// recorder keeps what was told.
type recorder struct {
	mu  sync.Mutex // guards all
	all []string
}

func (r *recorder) Publish(m events.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf("%s %s", m.Action, m.Actor.ID))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, root string) (*Service, *recorder) {
	t.Helper()
	r := &recorder{}
	s, err := Open(Config{Root: root, Events: r})
	must(t, err)
	return s, r
}

func create(t *testing.T, s *Service, req volume.CreateRequest) volume.Volume {
	t.Helper()
	v, err := s.Create(t.Context(), req)
	must(t, err)
	return v
}

func TestCreateAndInspect(t *testing.T) {
	root := t.TempDir()
	s, told := open(t, root)
	v := create(t, s, volume.CreateRequest{Name: "data", Labels: map[string]string{"a": "b"}})
	if v.Mountpoint != filepath.Join(root, "volumes", "data", "_data") || v.Driver != "local" || v.Scope != "local" || v.CreatedAt == "" {
		t.Errorf("got %+v", v)
	}
	if info, err := os.Stat(v.Mountpoint); err != nil || !info.IsDir() {
		t.Error(err)
	}
	again := create(t, s, volume.CreateRequest{Name: "data", Labels: map[string]string{"other": ""}})
	if again.Labels["a"] != "b" || len(again.Labels) != 1 {
		t.Errorf("creating it again changes it: %+v", again)
	}
	anonymous := create(t, s, volume.CreateRequest{})
	if _, ok := anonymous.Labels[anonymousLabel]; !ok || len(anonymous.Name) != 64 {
		t.Errorf("anonymous: got %+v", anonymous)
	}
	s, _ = open(t, root) // the engine starts again
	got, err := s.Inspect(t.Context(), "data")
	must(t, err)
	if got.Labels["a"] != "b" || got.CreatedAt != v.CreatedAt {
		t.Errorf("after a restart: got %+v; want %+v", got, v)
	}
	if want := []string{"create data", "create " + anonymous.Name}; !slices.Equal(told.all, want) {
		t.Errorf("told %v; want %v", told.all, want)
	}
	if _, err := s.Inspect(t.Context(), "nosuch"); !errdefs.IsNotFound(err) || err.Error() != "get nosuch: no such volume" {
		t.Errorf("got %v", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	root := t.TempDir()
	s, _ := open(t, root)
	for _, test := range []struct {
		req  volume.CreateRequest
		is   func(error) bool
		text string
	}{
		{volume.CreateRequest{Name: "a"}, errdefs.IsInvalidArgument, "volume name is too short"},
		{volume.CreateRequest{Name: ".."}, errdefs.IsInvalidArgument, "includes invalid characters for a local volume name"},
		{volume.CreateRequest{Name: "../up"}, errdefs.IsInvalidArgument, "includes invalid characters"},
		{volume.CreateRequest{Name: "a/b"}, errdefs.IsInvalidArgument, "includes invalid characters"},
		{volume.CreateRequest{Name: ".removed-1"}, errdefs.IsInvalidArgument, "includes invalid characters"},
		{volume.CreateRequest{Name: "aé"}, errdefs.IsInvalidArgument, "includes invalid characters"},
		{volume.CreateRequest{Name: strings.Repeat("a", 256)}, errdefs.IsInvalidArgument, "longer than 255"},
		{volume.CreateRequest{Name: "ab", Driver: "rexray"}, errdefs.IsNotFound, `plugin "rexray" not found`},
		{volume.CreateRequest{Name: "ab", DriverOpts: map[string]string{"x": "y"}}, errdefs.IsInvalidArgument, `invalid option: "x"`},
		{volume.CreateRequest{Name: "ab", DriverOpts: map[string]string{"size": "1G"}}, errdefs.IsInvalidArgument, "no quota support"},
		{volume.CreateRequest{Name: "ab", DriverOpts: map[string]string{"type": "tmpfs"}}, errdefs.IsInvalidArgument, `missing required option: "device"`},
		{volume.CreateRequest{Name: "ab", DriverOpts: map[string]string{"o": "ro", "device": "x"}}, errdefs.IsInvalidArgument, `missing required option: "type"`},
		{volume.CreateRequest{Name: "ab", ClusterVolumeSpec: &volume.ClusterVolumeSpec{}}, errdefs.IsInvalidArgument, "cluster volumes are not supported"},
	} {
		if _, err := s.Create(t.Context(), test.req); !test.is(err) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%+v: got %v; want %q", test.req, err, test.text)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(root, "volumes")); len(left) > 0 {
		t.Errorf("refusals left %v", left)
	}
}

func TestUseKeepsAVolume(t *testing.T) {
	s, told := open(t, t.TempDir())
	v := create(t, s, volume.CreateRequest{Name: "data"})
	for _, id := range []string{"c2", "c1", "c1"} {
		path, err := s.Use(t.Context(), "data", id)
		if err != nil || path != v.Mountpoint {
			t.Errorf("got %s, %v", path, err)
		}
	}
	for _, force := range []bool{false, true} {
		err := s.Remove(t.Context(), "data", force)
		if !errdefs.IsConflict(err) || err.Error() != "remove data: volume is in use - [c1, c2]" {
			t.Errorf("force %v: got %v", force, err)
		}
	}
	for _, id := range []string{"c1", "c2", "c2"} {
		must(t, s.Release(t.Context(), "data", id))
	}
	must(t, s.Release(t.Context(), "nosuch", "c1"))
	must(t, s.Remove(t.Context(), "data", false))
	if err := s.Remove(t.Context(), "data", false); !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	must(t, s.Remove(t.Context(), "data", true))
	if _, err := s.Use(t.Context(), "data", "c1"); !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	if want := []string{"create data", "destroy data"}; !slices.Equal(told.all, want) {
		t.Errorf("told %v; want %v", told.all, want)
	}
}

// What containers put into a volume cannot lead a removal out of it.
func TestRemoveFollowsNoLinks(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	s, _ := open(t, root)
	precious := filepath.Join(outside, "precious")
	must(t, os.WriteFile(precious, nil, 0o600))
	v := create(t, s, volume.CreateRequest{Name: "data"})
	must(t, os.Symlink(outside, filepath.Join(v.Mountpoint, "link")))
	moved := create(t, s, volume.CreateRequest{Name: "moved"})
	must(t, os.Remove(moved.Mountpoint))
	must(t, os.Symlink(outside, moved.Mountpoint))
	must(t, os.Symlink(outside, filepath.Join(root, "volumes", "foreign")))
	s, _ = open(t, root)
	if _, err := s.Inspect(t.Context(), "foreign"); !errdefs.IsNotFound(err) {
		t.Errorf("a link is a volume: %v", err)
	}
	must(t, s.Remove(t.Context(), "data", false))
	must(t, s.Remove(t.Context(), "moved", false))
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestBrokenDocument(t *testing.T) {
	root := t.TempDir()
	s, _ := open(t, root)
	v := create(t, s, volume.CreateRequest{Name: "torn"})
	create(t, s, volume.CreateRequest{Name: "plain"})
	must(t, os.WriteFile(s.metaPath("torn"), []byte(`{"version":1,"opt`), 0o600))
	must(t, os.Remove(s.metaPath("plain")))
	must(t, os.Mkdir(filepath.Join(root, "volumes", removedPrefix+"x"), 0o700))
	s, _ = open(t, root)
	list, err := s.List(t.Context(), nil)
	must(t, err)
	if len(list.Volumes) != 2 || len(list.Warnings) != 1 || !strings.Contains(list.Warnings[0], "torn") {
		t.Errorf("got %+v", list)
	}
	if _, err := s.Use(t.Context(), "torn", "c"); err == nil || !strings.Contains(err.Error(), "document is damaged") {
		t.Errorf("got %v", err)
	}
	if _, err := s.Use(t.Context(), "plain", "c"); err != nil {
		t.Errorf("without a document: %v", err)
	}
	must(t, s.Remove(t.Context(), "torn", false))
	if _, err := os.Stat(v.Mountpoint); !os.IsNotExist(err) {
		t.Error("the data is left")
	}
	if left, _ := os.ReadDir(filepath.Join(root, "volumes")); len(left) != 1 {
		t.Errorf("left %v; want plain alone", left)
	}
}

func TestListAndPrune(t *testing.T) {
	s, told := open(t, t.TempDir())
	anonymous := create(t, s, volume.CreateRequest{}).Name
	used := create(t, s, volume.CreateRequest{}).Name
	create(t, s, volume.CreateRequest{Name: "data", Labels: map[string]string{"keep": "yes"}})
	create(t, s, volume.CreateRequest{Name: "dump"})
	_, err := s.Use(t.Context(), used, "c1")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(s.dataPath(anonymous), "file"), make([]byte, 1000), 0o600))
	must(t, os.Link(filepath.Join(s.dataPath(anonymous), "file"), filepath.Join(s.dataPath(anonymous), "again")))

	for _, test := range []struct {
		filters filter.Args
		want    []string
	}{
		{nil, []string{anonymous, used, "data", "dump"}},
		{filter.Args{"name": {"d"}, "dangling": {"true"}, "label": {"keep"}}, []string{"data"}},
		{filter.Args{"name": {"^du"}}, []string{"dump"}},
		{filter.Args{"dangling": {"false"}}, []string{used}},
		{filter.Args{"dangling": {"1"}, "label": {anonymousLabel}}, []string{anonymous}},
		{filter.Args{"driver": {"nfs"}}, nil},
	} {
		list, err := s.List(t.Context(), test.filters)
		must(t, err)
		var got []string
		for _, v := range list.Volumes {
			got = append(got, v.Name)
		}
		slices.Sort(test.want)
		if !slices.Equal(got, test.want) {
			t.Errorf("%v: got %v; want %v", test.filters, got, test.want)
		}
	}
	if _, err := s.List(t.Context(), filter.Args{"x": {"y"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
	usage, err := s.Usage(t.Context())
	must(t, err)
	for _, v := range usage {
		if v.Name == anonymous && v.UsageData.Size != 1000 || v.Name == used && v.UsageData.RefCount != 1 {
			t.Errorf("usage: got %+v", v.UsageData)
		}
	}
	for _, test := range []struct {
		filters   filter.Args
		want      []string
		reclaimed uint64
	}{
		{nil, []string{anonymous}, 1000},
		{filter.Args{"all": {"true"}, "label!": {"keep=yes"}}, []string{"dump"}, 0},
		{filter.Args{"all": {"true"}}, []string{"data"}, 0},
	} {
		report, err := s.Prune(t.Context(), test.filters)
		if err != nil || !slices.Equal(report.VolumesDeleted, test.want) || report.SpaceReclaimed != test.reclaimed {
			t.Errorf("%v: got %+v, %v; want %v", test.filters, report, err, test.want)
		}
	}
	if last := told.all[len(told.all)-1]; last != "prune " {
		t.Errorf("told %q last", last)
	}
}

func TestMounts(t *testing.T) {
	needRoot(t)
	root, source := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(source, "file"), nil, 0o600))
	s, _ := open(t, root)
	create(t, s, volume.CreateRequest{Name: "ram", DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000,noexec"}})
	create(t, s, volume.CreateRequest{Name: "bound", DriverOpts: map[string]string{"type": "none", "device": source, "o": "bind,ro"}})
	create(t, s, volume.CreateRequest{Name: "bad", DriverOpts: map[string]string{"type": "none", "device": "/nosuch", "o": "bind"}})

	ram, err := s.Use(t.Context(), "ram", "c1")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(ram, "file"), nil, 0o600))
	if err := os.WriteFile(filepath.Join(ram, "big"), make([]byte, 2<<20), 0o600); err == nil {
		t.Error("the size of a tmpfs is not kept")
	}
	bound, err := s.Use(t.Context(), "bound", "c1")
	must(t, err)
	if _, err := os.Stat(filepath.Join(bound, "file")); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(bound, "new"), nil, 0o600); err == nil {
		t.Error("a read-only bind can be written")
	}
	if _, err := s.Use(t.Context(), "bad", "c1"); err == nil || !strings.Contains(err.Error(), "error while mounting volume") {
		t.Errorf("got %v", err)
	}
	must(t, s.Remove(t.Context(), "bad", false))

	s, _ = open(t, root) // the engine starts again; what is mounted stays so
	_, err = s.Use(t.Context(), "ram", "c1")
	must(t, err)
	_, err = s.Use(t.Context(), "ram", "c2")
	must(t, err)
	must(t, s.Release(t.Context(), "ram", "c1"))
	if _, err := os.Stat(filepath.Join(ram, "file")); err != nil {
		t.Error("unmounted while it is used:", err)
	}
	must(t, s.Release(t.Context(), "ram", "c2"))
	if mounted, err := isMounted(ram); mounted || err != nil {
		t.Errorf("mounted after the last release: %v, %v", mounted, err)
	}
	must(t, s.Remove(t.Context(), "bound", false)) // still mounted, but used by nobody
	if _, err := os.Stat(filepath.Join(source, "file")); err != nil {
		t.Error("removing the volume removed what was mounted:", err)
	}
}

func TestParallel(t *testing.T) {
	root := t.TempDir()
	s, _ := open(t, root)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			id, name := fmt.Sprint(i), fmt.Sprintf("shared%d", i%3)
			if _, err := s.Create(t.Context(), volume.CreateRequest{Name: name}); err != nil {
				t.Error(err)
			}
			if _, err := s.Use(t.Context(), name, id); err != nil && !errdefs.IsNotFound(err) {
				t.Error(err)
			}
			_ = s.Remove(t.Context(), name, false)
			if err := s.Release(t.Context(), name, id); err != nil {
				t.Error(err)
			}
			if err := s.Remove(t.Context(), name, true); err != nil && !errdefs.IsConflict(err) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left, _ := os.ReadDir(filepath.Join(root, "volumes")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add([]byte(`{"version":1,"created":"2026-01-01T00:00:00Z","labels":{"a":"b"},"options":{"type":"tmpfs","device":"tmpfs","o":"size=1m"}}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMetadata(data)
		if err == nil && m.Version != metadataVersion {
			t.Errorf("version %d is taken", m.Version)
		}
	})
}

func FuzzMountOptions(f *testing.F) {
	f.Add("tmpfs", "tmpfs", "size=1m,ro,rw,noexec,rshared")
	f.Add("nfs", ":/export", "addr=192.0.2.1,nolock")
	f.Fuzz(func(t *testing.T, fstype, device, o string) {
		m, err := parseMount(map[string]string{"type": fstype, "device": device, "o": o})
		if err == nil && strings.ContainsRune(m.fstype+m.device+m.data, 0) {
			t.Error("a zero byte reaches mount(2)")
		}
	})
}

func FuzzName(f *testing.F) {
	f.Add("data")
	f.Add("..")
	f.Fuzz(func(t *testing.T, name string) {
		if checkName(name) == nil && (filepath.Base(name) != name || name[0] == '.' || !filepath.IsLocal(name)) {
			t.Errorf("%q is taken", name)
		}
	})
}
