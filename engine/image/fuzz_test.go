//go:build linux

package image

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/getberth/berth/test/images"
)

func FuzzManifest(f *testing.F) {
	layer, err := images.Tar(images.File{Name: "f"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"`+images.Hash(layer).String()+
		`","size":9},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"`+images.Hash(layer).String()+`","size":9}]}`), configOf(layer))
	f.Add([]byte(`{"config":{"mediaType":"x","size":-1}}`), []byte(`{"rootfs":{"diff_ids":["x"]}}`))
	f.Fuzz(func(t *testing.T, rawManifest, config []byte) {
		m := &manifest{config: config}
		if json.Unmarshal(rawManifest, &m.manifest) != nil {
			return
		}
		for _, err := range []error{checkManifest(ocispec.Descriptor{}, m.manifest), m.parseConfig()} {
			if err != nil && !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v is not invalid-argument", err)
			}
			if err != nil {
				return
			}
		}
		if len(m.chain()) != len(m.manifest.Layers) {
			t.Errorf("%d layers have %d snapshots", len(m.manifest.Layers), len(m.chain()))
		}
		_ = m.top()
	})
}

// FuzzArchive loads anything. It needs no root, and gets none of the kernel's overlay: layers are copied.
func FuzzArchive(f *testing.F) {
	layout := images.File{Name: "oci-layout", Body: `{"imageLayoutVersion":"1.0.0"}`}
	for _, files := range [][]images.File{
		{layout, {Name: "index.json", Body: `{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"` + images.Hash(nil).String() + `","size":1}]}`}},
		{{Name: "manifest.json", Body: `[{"Config":"c","RepoTags":["tool:v1"],"Layers":["l"]}]`}, {Name: "c", Body: `{}`}, {Name: "l"}},
	} {
		raw, err := images.Tar(files...)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	root, err := os.MkdirTemp("", "fuzz")
	if err != nil {
		f.Fatal(err)
	}
	defer os.RemoveAll(root)
	s, err := Open(f.Context(), Config{Root: root, StorageDriver: Native})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := s.Load(t.Context(), bytes.NewReader(raw), nil, discard); err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v is not invalid-argument", err)
		}
	})
}

func FuzzReference(f *testing.F) {
	for _, ref := range []string{"busybox:1.24", "a@sha256:" + images.Hash(nil).Hex, images.Hash(nil).String(), "abc", "[::1]:5000/x", "sha256:ab", "dangling@x"} {
		f.Add(ref)
	}
	root, err := os.MkdirTemp("", "fuzz")
	if err != nil {
		f.Fatal(err)
	}
	defer os.RemoveAll(root)
	s, err := Open(f.Context(), Config{Root: root, StorageDriver: Native})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	f.Fuzz(func(t *testing.T, ref string) {
		_, _, err := s.Config(t.Context(), ref, nil)
		if !errdefs.IsNotFound(err) && !errdefs.IsInvalidArgument(err) {
			t.Errorf("Config(%q) in an empty store: %v", ref, err)
		}
		_, _ = targetName(ref)
	})
}
