//go:build linux

package image

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"

	"github.com/getberth/berth/engine/filter"
	"github.com/getberth/berth/test/images"
)

// users is what a test says of containers.
type users struct {
	mu sync.Mutex
	m  map[string][]User
}

func (u *users) set(id string, list ...User) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.m = map[string][]User{id: list}
}

func (u *users) of(id string) []User {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.m[id]
}

func describeDeleted(list []image.DeleteResponse) string {
	var b strings.Builder
	for _, d := range list {
		if d.Untagged != "" {
			fmt.Fprintf(&b, "untagged %s; ", d.Untagged)
		}
		if d.Deleted != "" {
			b.WriteString("deleted; ")
		}
	}
	return b.String()
}

func TestRemove(t *testing.T) {
	const ctr = "0123456789abcdef"
	for _, tc := range []struct {
		what  string
		tags  []string // beside tool:v1
		ref   string   // ID stands for the image's id
		force bool
		users []User
		want  string // what was done
		err   string // ID12 stands for the short id
		left  bool
	}{
		{what: "the only name", ref: "tool:v1", want: "untagged tool:v1; deleted; "},
		{what: "one of two names", tags: []string{"other:v1"}, ref: "tool:v1", want: "untagged tool:v1; ", left: true},
		{what: "by id", ref: "ID", want: "untagged tool:v1; deleted; "},
		{what: "by id with two names", tags: []string{"other:v1"}, ref: "ID",
			err: "conflict: unable to delete ID12 (must be forced) - image is referenced in multiple repositories", left: true},
		{what: "by id with two names, forced", tags: []string{"other:v1"}, ref: "ID", force: true,
			want: "untagged other:v1; untagged tool:v1; deleted; "},
		{what: "used by name", ref: "tool:v1", users: []User{{ID: ctr}},
			err: "conflict: unable to delete tool:v1 (must be forced) - container 0123456789ab is using its referenced image ID12", left: true},
		{what: "used by name, forced", ref: "tool:v1", force: true, users: []User{{ID: ctr}}, want: "untagged tool:v1; ", left: true},
		{what: "used, one of two names", tags: []string{"other:v1"}, ref: "tool:v1", users: []User{{ID: ctr, Running: true}},
			want: "untagged tool:v1; ", left: true},
		{what: "used by a stopped container, by id", ref: "ID", users: []User{{ID: ctr}},
			err: "conflict: unable to delete ID12 (must be forced) - image is being used by stopped container 0123456789ab", left: true},
		{what: "used by a stopped container, by id, forced", ref: "ID", force: true, users: []User{{ID: ctr}}, want: "untagged tool:v1; deleted; "},
		{what: "used by a running container, by id, forced", ref: "ID", force: true, users: []User{{ID: ctr, Running: true}},
			err: "conflict: unable to delete ID12 (cannot be forced) - image is being used by running container 0123456789ab", left: true},
	} {
		t.Run(tc.what, func(t *testing.T) {
			var u users
			s := open(t, func(c *Config) { c.InUse = u.of })
			load(t, s, "tool:v1", small(t))
			id, _, err := s.Config(t.Context(), "tool:v1", nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, tag := range tc.tags {
				if err := s.Tag(t.Context(), "tool:v1", tag); err != nil {
					t.Fatal(err)
				}
			}
			u.set(id, tc.users...)
			fill := strings.NewReplacer("ID12", id[7:19], "ID", id)
			done, err := s.Remove(t.Context(), fill.Replace(tc.ref), RemoveOptions{Force: tc.force})
			if got := describeDeleted(done); got != tc.want {
				t.Errorf("done: %q, want %q", got, tc.want)
			}
			if want := fill.Replace(tc.err); (err == nil) != (want == "") || err != nil && (err.Error() != want || !errdefs.IsConflict(err)) {
				t.Errorf("error %v, want conflict %q", err, want)
			}
			if _, _, err := s.Config(t.Context(), id, nil); (err == nil) != tc.left {
				t.Errorf("afterwards: %v, want that it is left: %v", err, tc.left)
			}
			if !tc.left {
				wantEmpty(t, s)
			}
		})
	}
}

func TestRemoveOfWhatIsNotHere(t *testing.T) {
	s := open(t, nil)
	for ref, want := range map[string]string{
		"missing:v1":                     "No such image: missing:v1",
		"missing":                        "No such image: missing:latest",
		"abcdef123456":                   "No such image: abcdef123456",
		"sha256:" + images.Hash(nil).Hex: "No such image: sha256:" + images.Hash(nil).Hex,
	} {
		if _, err := s.Remove(t.Context(), ref, RemoveOptions{Force: false}); err == nil || err.Error() != want || !errdefs.IsNotFound(err) {
			t.Errorf("removing %s: %v, want %s", ref, err, want)
		}
	}
}

func TestAmbiguousID(t *testing.T) {
	s := open(t, nil)
	first := map[byte]string{}
	for i := range 40 { // two of them begin alike
		ref := fmt.Sprintf("tool:v%d", i)
		load(t, s, ref, withFile(t, fmt.Sprint(i)))
		id, _, err := s.Config(t.Context(), ref, nil)
		if err != nil {
			t.Fatal(err)
		}
		if first[id[7]] != "" {
			if _, _, err := s.Config(t.Context(), "sha256:"+id[7:8], nil); err == nil || !strings.Contains(err.Error(), "ambiguous") {
				t.Errorf("the beginning of two ids: %v, want ambiguous", err)
			}
			return
		}
		first[id[7]] = id
	}
	t.Fatal("no two of 40 digests begin with the same digit")
}

// TestContainerKeepsItsImage removes the image of a container by force, and checks that the container can still be used,
// measured and committed, and that everything is freed once it is gone.
func TestContainerKeepsItsImage(t *testing.T) {
	for _, driver := range []string{Overlay, Native} {
		t.Run(driver, func(t *testing.T) {
			s := open(t, func(c *Config) { c.StorageDriver = driver })
			load(t, s, "tool:v1", small(t))
			root := mounted(t, s, "c1", "tool:v1")
			if err := os.WriteFile(filepath.Join(root, "data"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := s.UnmountRootFS(t.Context(), root); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Remove(t.Context(), "tool:v1", RemoveOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			if err := s.MountRootFS(t.Context(), "c1", root); err != nil {
				t.Fatal(err)
			}
			if got := tree(t, root); got != "data hello" {
				t.Errorf("the container has %q", got)
			}
			if _, _, err := s.RootFSSize(t.Context(), "c1"); err != nil {
				t.Error(err)
			}
			id, err := s.CommitRootFS(t.Context(), "c1", "", emptyConfig())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Remove(t.Context(), id, RemoveOptions{Force: false}); err != nil {
				t.Fatal(err)
			}
			if err := s.UnmountRootFS(t.Context(), root); err != nil {
				t.Fatal(err)
			}
			if err := s.RemoveRootFS(t.Context(), "c1"); err != nil {
				t.Fatal(err)
			}
			wantEmpty(t, s)
		})
	}
}

func TestList(t *testing.T) {
	var u users
	s := open(t, func(c *Config) { c.InUse = u.of })
	load(t, s, "tool:v1", withFile(t, "one"))
	load(t, s, "tool:v2", withFile(t, "two"))
	load(t, s, "repo.example/deep/other:v1", withFile(t, "three"))
	load(t, s, "tool:old", withFile(t, "four"))
	load(t, s, "tool:old", withFile(t, "five")) // the former has no name now
	id, _, err := s.Config(t.Context(), "tool:v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	u.set(id, User{ID: "c1"})
	for _, tc := range []struct {
		filters filter.Args
		want    []string
	}{
		{nil, []string{"", "repo.example/deep/other:v1", "tool:old", "tool:v1", "tool:v2"}},
		{filter.Args{"reference": {"tool"}}, []string{"tool:old", "tool:v1", "tool:v2"}},
		{filter.Args{"reference": {"tool:v*"}}, []string{"tool:v1", "tool:v2"}},
		{filter.Args{"reference": {"repo.example/*/other"}}, []string{"repo.example/deep/other:v1"}},
		{filter.Args{"dangling": {"true"}}, []string{""}},
		{filter.Args{"dangling": {"false"}}, []string{"repo.example/deep/other:v1", "tool:old", "tool:v1", "tool:v2"}},
		{filter.Args{"label": {"body=two"}}, []string{"tool:v2"}},
		{filter.Args{"label": {"nothing"}}, nil},
		{filter.Args{"label!": {"body=two"}, "dangling": {"false"}}, []string{"repo.example/deep/other:v1", "tool:old", "tool:v1"}},
		{filter.Args{"until": {"2020-01-01"}}, nil},
		{filter.Args{"before": {"tool:v1"}}, nil},
		{filter.Args{"since": {"tool:v1"}}, nil},
	} {
		list, err := s.List(t.Context(), ListOptions{Filters: tc.filters})
		if err != nil {
			t.Errorf("%v: %v", tc.filters, err)
			continue
		}
		var got []string
		for _, sum := range list {
			got = append(got, strings.Join(sum.RepoTags, ","))
		}
		slices.Sort(got)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%v: %q, want %q", tc.filters, got, tc.want)
		}
	}
	for _, bad := range []filter.Args{{"colour": {"red"}}, {"dangling": {"maybe"}}, {"until": {"soon"}}, {"reference": {"["}}} {
		if _, err := s.List(t.Context(), ListOptions{Filters: bad}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v, want invalid", bad, err)
		}
	}
	if _, err := s.List(t.Context(), ListOptions{Filters: filter.Args{"before": {"missing"}}}); !errdefs.IsNotFound(err) {
		t.Errorf("before what is not here: %v", err)
	}

	list, err := s.List(t.Context(), ListOptions{Filters: filter.Args{"reference": {"tool:v1"}}, SharedSize: true, Manifests: true})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	one := list[0]
	if one.ID != id || one.Containers != 1 || one.Size <= 0 || one.SharedSize != 0 || one.Labels["body"] != "one" ||
		!slices.Equal(one.RepoDigests, []string{"tool@" + id}) || one.Created != time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC).Unix() {
		t.Errorf("summary %+v", one)
	}
	if len(one.Manifests) != 1 || !one.Manifests[0].Available || !slices.Equal(one.Manifests[0].ImageData.Containers, []string{"c1"}) {
		t.Errorf("manifests %+v", one.Manifests)
	}
	usage, err := s.DiskUsage(t.Context(), true)
	if err != nil || usage.TotalCount != 5 || usage.ActiveCount != 1 || len(usage.Items) != 5 || usage.TotalSize <= usage.Reclaimable {
		t.Errorf("disk usage %+v, %v", usage, err)
	}
}

func TestHistoryAndInspect(t *testing.T) {
	s := open(t, nil)
	load(t, s, "busybox:1.24", busybox(t))
	history, err := s.History(t.Context(), "busybox:1.24", nil)
	if err != nil || len(history) != 4 {
		t.Fatalf("%d lines, %v; want 4", len(history), err)
	}
	if history[0].CreatedBy != `CMD ["sh"]` || history[0].Size != 0 || !slices.Equal(history[0].Tags, []string{"busybox:1.24"}) {
		t.Errorf("newest line %+v", history[0])
	}
	if history[3].ID != "<missing>" || history[3].Size < 1<<20 {
		t.Errorf("oldest line %+v, want busybox itself", history[3])
	}
	got, err := s.Inspect(t.Context(), "busybox:1.24", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Os != "linux" || len(got.RootFS.Layers) != 3 || got.Size < 1<<20 || got.Created != "2024-01-02T03:04:05Z" ||
		!slices.Equal(got.RepoTags, []string{"busybox:1.24"}) || got.Metadata.LastTagTime.IsZero() {
		t.Errorf("inspect %+v", got)
	}
}

func TestTag(t *testing.T) {
	log := &eventLog{}
	s := open(t, func(c *Config) { c.Events = log })
	load(t, s, "tool:v1", withFile(t, "one"))
	load(t, s, "other:v1", withFile(t, "two"))
	if err := s.Tag(t.Context(), "tool:v1", "Bad Name"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a bad name: %v", err)
	}
	if err := s.Tag(t.Context(), "missing", "new"); err == nil || err.Error() != "No such image: missing:latest" {
		t.Errorf("a missing image: %v", err)
	}
	if err := s.Tag(t.Context(), "tool:v1", "other:v1"); err != nil { // takes it from the other
		t.Fatal(err)
	}
	if !log.has(events.ActionTag) {
		t.Error("no event")
	}
	list, err := s.List(t.Context(), ListOptions{})
	if err != nil || len(list) != 2 {
		t.Fatalf("%d images, %v; want two", len(list), err)
	}
	if err := s.Tag(t.Context(), "tool:v1", "deep/tool"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Config(t.Context(), "deep/tool:latest", nil); err != nil {
		t.Error(err)
	}
}

func TestPrune(t *testing.T) {
	var u users
	s := open(t, func(c *Config) { c.InUse = u.of })
	fill := func() {
		load(t, s, "tool:old", withFile(t, strings.Repeat("four", 10000)))
		load(t, s, "tool:old", withFile(t, "five"))
		load(t, s, "used:v1", withFile(t, "six"))
		if err := s.Tag(t.Context(), "used:v1", "unused:v1"); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	report, err := s.Prune(t.Context(), nil)
	if err != nil || len(report.ImagesDeleted) != 1 || report.SpaceReclaimed < 40000 {
		t.Errorf("pruning what has no name: %+v, %v", report, err)
	}
	id, _, err := s.Config(t.Context(), "used:v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	u.set(id, User{ID: "c1", Ref: "used:v1"})
	report, err = s.Prune(t.Context(), filter.Args{"dangling": {"false"}})
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.List(t.Context(), ListOptions{})
	if err != nil || len(list) != 1 || !slices.Equal(list[0].RepoTags, []string{"used:v1"}) {
		t.Errorf("left are %+v (%v), want used:v1; deleted were %q", list, err, describeDeleted(report.ImagesDeleted))
	}
	u.set(id)
	if report, err = s.Prune(t.Context(), filter.Args{"dangling": {"false"}, "label": {"body=none"}}); err != nil || len(report.ImagesDeleted) != 0 {
		t.Errorf("pruning by a label that nothing has: %+v, %v", report, err)
	}
	if _, err = s.Prune(t.Context(), filter.Args{"dangling": {"false"}}); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, s)
	if _, err := s.Prune(t.Context(), filter.Args{"reference": {"x"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an unknown filter: %v", err)
	}
}

func TestPush(t *testing.T) {
	reg := serve(t, images.RegistryOptions{Username: "ann", Password: "secret"})
	auth := &registry.AuthConfig{Username: "ann", Password: "secret"}
	s := open(t, nil)
	load(t, s, "busybox:1.24", busybox(t))
	ref := reg.Host() + "/mine/busybox:1.24"
	if err := s.Tag(t.Context(), "busybox:1.24", ref); err != nil {
		t.Fatal(err)
	}
	if err := s.Push(t.Context(), ref, nil, &registry.AuthConfig{Username: "ann", Password: "guess"}, discard); err == nil ||
		!errdefs.IsPermissionDenied(err) || strings.Contains(err.Error(), "guess") {
		t.Errorf("a wrong password: %v", err)
	}
	if err := s.Push(t.Context(), ref, nil, nil, discard); err == nil || !strings.Contains(err.Error(), "no basic auth credentials") {
		t.Errorf("no password: %v", err)
	}
	for _, want := range []string{": Pushed\n", ": Layer already exists\n"} {
		var r recorder
		if err := s.Push(t.Context(), ref, nil, auth, r.add); err != nil {
			t.Fatal(err)
		}
		id, _, err := s.Config(t.Context(), ref, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"The push refers to repository [" + reg.Host() + "/mine/busybox]\n", want, "1.24: digest: " + id + " size: "} {
			if !strings.Contains(r.text(), want) {
				t.Errorf("progress lacks %q:\n%s", want, r.text())
			}
		}
		if last := r.msgs[len(r.msgs)-1]; last.Aux == nil || !bytes.Contains(*last.Aux, []byte(`"Tag":"1.24","Digest":"`+id)) {
			t.Errorf("last message %+v, want the digest for programs", last)
		}
	}
	fresh := open(t, nil)
	if err := fresh.Pull(t.Context(), ref, nil, auth, discard); err != nil {
		t.Error(err)
	}
	if err := s.Push(t.Context(), "missing:v1", nil, nil, discard); err == nil || err.Error() != "tag does not exist: missing:v1" {
		t.Errorf("pushing what is not here: %v", err)
	}
	if err := s.Push(t.Context(), "missing", nil, nil, discard); err == nil || !strings.Contains(err.Error(), "An image does not exist locally with the tag: missing") {
		t.Errorf("pushing all of what is not here: %v", err)
	}
}

func TestPushOfPartOfAnIndex(t *testing.T) {
	idx, err := images.Index(platformImage(t, v1.Platform{OS: "linux", Architecture: "amd64"}), platformImage(t, v1.Platform{OS: "linux", Architecture: "arm64"}))
	if err != nil {
		t.Fatal(err)
	}
	reg := serve(t, images.RegistryOptions{})
	if err := reg.AddIndex("tool:v1", idx); err != nil {
		t.Fatal(err)
	}
	s := open(t, nil)
	ref := reg.Host() + "/tool:v1"
	if err := s.Pull(t.Context(), ref, nil, nil, discard); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), ref, reg.Host()+"/copy:v1"); err != nil {
		t.Fatal(err)
	}
	var r recorder
	if err := s.Push(t.Context(), reg.Host()+"/copy:v1", nil, nil, r.add); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.text(), "only the available single-platform image was pushed") {
		t.Errorf("progress:\n%s", r.text())
	}
	var archive bytes.Buffer
	if err := s.Save(t.Context(), []string{ref}, nil, &archive); err != nil {
		t.Fatal(err)
	}
	if err := open(t, nil).Load(t.Context(), &archive, nil, discard); err != nil {
		t.Errorf("loading an index of which one platform was saved: %v", err)
	}
}

func TestLogin(t *testing.T) {
	reg := serve(t, images.RegistryOptions{Username: "ann", Password: "secret"})
	s := open(t, nil)
	got, err := s.Login(t.Context(), registry.AuthConfig{Username: "ann", Password: "secret", ServerAddress: reg.Host()})
	if err != nil || got.Status != "Login Succeeded" {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = s.Login(t.Context(), registry.AuthConfig{Username: "ann", Password: "guess", ServerAddress: "http://" + reg.Host() + "/v1/"})
	if !errdefs.IsUnauthorized(err) || !strings.Contains(err.Error(), "unauthorized: incorrect username or password") {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestTwoEnginesOnOneRoot(t *testing.T) {
	root := t.TempDir()
	_ = openAt(t, root, nil)
	if _, err := Open(t.Context(), Config{Root: root}); err == nil {
		t.Error("a second engine opened the same root")
	}
}

func TestBadConfig(t *testing.T) {
	needRoot(t)
	for _, c := range []Config{
		{Settings: Settings{Mirrors: []string{"registry.example"}}}, {Settings: Settings{Mirrors: []string{"http://u:p@registry.example"}}},
		{Settings: Settings{Mirrors: []string{"https://registry.example/path"}}},
		{Settings: Settings{InsecureRegistries: []string{"http://registry.example"}}}, {StorageDriver: "zfs"},
	} {
		c.Root = t.TempDir()
		if s, err := Open(t.Context(), c); err == nil {
			_ = s.Close()
			t.Errorf("%+v was accepted", c)
		} else if strings.Contains(err.Error(), "u:p") {
			t.Errorf("the error tells a password: %v", err)
		}
	}
}
