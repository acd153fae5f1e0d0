//go:build linux

package image

import (
	"bytes"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/getberth/berth/test/images"
)

var (
	amd64   = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64   = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	riscv64 = ocispec.Platform{OS: "linux", Architecture: "riscv64"}
)

// threePlatforms pulls all of an index, and returns its name.
func threePlatforms(t *testing.T, s *Service) string {
	t.Helper()
	all := []ocispec.Platform{amd64, arm64, riscv64}
	var imgs []v1.Image
	for _, p := range all {
		imgs = append(imgs, platformImage(t, v1.Platform{OS: p.OS, Architecture: p.Architecture}))
	}
	idx, err := images.Index(imgs...)
	if err != nil {
		t.Fatal(err)
	}
	reg := serve(t, images.RegistryOptions{})
	if err := reg.AddIndex("tool:v1", idx); err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if err := s.Pull(t.Context(), reg.Host()+"/tool:v1", &p, nil, discard); err != nil {
			t.Fatal(err)
		}
	}
	return reg.Host() + "/tool:v1"
}

// has lists the architectures that an image is here for.
func has(t *testing.T, s *Service, ref string) string {
	t.Helper()
	i, err := s.Inspect(t.Context(), ref, nil)
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, m := range i.Manifests {
		if m.Available {
			all = append(all, m.ImageData.Platform.Architecture)
		}
	}
	return strings.Join(all, " ")
}

func TestRemoveOnePlatform(t *testing.T) {
	s := open(t, nil)
	ref := threePlatforms(t, s)
	before, err := s.Inspect(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), ref, RemoveOptions{Platforms: []ocispec.Platform{arm64}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("without force: error %v, want it to be asked for", err)
	}
	done, err := s.Remove(t.Context(), ref, RemoveOptions{Force: true, Platforms: []ocispec.Platform{arm64}})
	if err != nil || len(done) != 1 || done[0].Deleted == "" || done[0].Deleted == before.ID {
		t.Errorf("%+v (%v), want one manifest deleted", done, err)
	}
	if got := has(t, s, ref); got != "amd64 riscv64" {
		t.Errorf("left are %q", got)
	}
	if _, err := s.Remove(t.Context(), ref, RemoveOptions{Force: true, Platforms: []ocispec.Platform{arm64}}); !errdefs.IsNotFound(err) {
		t.Errorf("again: error %v, want that it is not there", err)
	}

	mounted(t, s, "c1", ref)
	if _, err := s.Remove(t.Context(), ref, RemoveOptions{Force: true, Platforms: []ocispec.Platform{riscv64, s.cfg.Platform}}); !errdefs.IsConflict(err) {
		t.Errorf("in use: error %v, want a conflict", err)
	}
	if got := has(t, s, ref); got != "amd64 riscv64" {
		t.Errorf("after the conflict there are %q", got)
	}
}

func TestRemoveAllPlatforms(t *testing.T) {
	s := open(t, nil)
	ref := threePlatforms(t, s)
	all := []ocispec.Platform{amd64, arm64, riscv64}
	if done, err := s.Remove(t.Context(), ref, RemoveOptions{Force: true, Platforms: all}); err != nil || len(done) != 3 {
		t.Fatalf("%+v (%v), want three", done, err)
	}
	if list, err := s.List(t.Context(), ListOptions{}); err != nil || len(list) != 1 {
		t.Errorf("images %+v (%v), want the name to stay", list, err)
	}
	if err := s.Pull(t.Context(), ref, &arm64, nil, discard); err != nil {
		t.Error(err)
	}
	if got := has(t, s, ref); got != "arm64" {
		t.Errorf("after another pull there are %q", got)
	}
	if _, err := s.Remove(t.Context(), ref, RemoveOptions{}); err != nil {
		t.Error(err)
	}
	wantEmpty(t, s)
}

func TestSaveAndLoadSomePlatforms(t *testing.T) {
	s := open(t, nil)
	ref := threePlatforms(t, s)
	id, err := s.Inspect(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		what       string
		save, load []ocispec.Platform
		want       string
	}{
		{"everything", nil, nil, "amd64 arm64 riscv64"},
		{"saved two", []ocispec.Platform{arm64, riscv64}, nil, "arm64 riscv64"},
		{"loaded one", nil, []ocispec.Platform{riscv64}, "riscv64"},
		{"of two loaded one", []ocispec.Platform{arm64, riscv64}, []ocispec.Platform{arm64}, "arm64"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			var archive bytes.Buffer
			if err := s.Save(t.Context(), []string{ref}, tc.save, &archive); err != nil {
				t.Fatal(err)
			}
			fresh := open(t, nil)
			if err := fresh.Load(t.Context(), &archive, tc.load, discard); err != nil {
				t.Fatal(err)
			}
			if got := has(t, fresh, ref); got != tc.want {
				t.Errorf("loaded are %q, want %q", got, tc.want)
			}
			if got, err := fresh.Inspect(t.Context(), ref, nil); err != nil || got.ID != id.ID {
				t.Errorf("the id is %s (%v), was %s", got.ID, err, id.ID)
			}
		})
	}
	if err := s.Save(t.Context(), []string{ref}, []ocispec.Platform{{OS: "linux", Architecture: "s390x"}}, &bytes.Buffer{}); !errdefs.IsNotFound(err) {
		t.Errorf("saving what is not there: error %v", err)
	}
	var archive bytes.Buffer
	if err := s.Save(t.Context(), []string{ref}, nil, &archive); err != nil {
		t.Fatal(err)
	}
	fresh := open(t, nil)
	if err := fresh.Load(t.Context(), &archive, []ocispec.Platform{{OS: "linux", Architecture: "s390x"}}, discard); !errdefs.IsNotFound(err) {
		t.Errorf("loading what is not there: error %v", err)
	}
	wantEmpty(t, fresh)
}
