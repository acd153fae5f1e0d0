//go:build linux

package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/getberth/berth/test/images"
)

// load loads an image from an OCI layout under a name.
func load(t *testing.T, s *Service, ref string, img v1.Image) {
	t.Helper()
	if err := s.Load(t.Context(), bytes.NewReader(ociArchive(t, ref, img)), nil, discard); err != nil {
		t.Fatal(err)
	}
}

func ociArchive(t *testing.T, ref string, img v1.Image) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := images.WriteOCIArchive(&buf, ref, img); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func dockerArchive(t *testing.T, ref string, img v1.Image) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := images.WriteDockerArchive(&buf, ref, img); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func gzipped(t *testing.T, raw []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstandard(t *testing.T, raw []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(raw, nil)
}

func TestLoad(t *testing.T) {
	img := busybox(t)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	oci := ociArchive(t, "docker.io/library/busybox:1.24", img)
	for _, tc := range []struct {
		what    string
		archive []byte
		want    string // message
		ref     string
	}{
		{"OCI layout", oci, "Loaded image: busybox:1.24\n", "busybox:1.24"},
		{"gzip", gzipped(t, oci), "Loaded image: busybox:1.24\n", "busybox:1.24"},
		{"zstd", zstandard(t, oci), "Loaded image: busybox:1.24\n", "busybox:1.24"},
		{"without a name", ociArchive(t, "", img), "Loaded image ID: " + digest.String() + "\n", digest.String()},
		{"docker save", dockerArchive(t, "busybox:1.24", img), "Loaded image: busybox:1.24\n", "busybox:1.24"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			s := open(t, nil)
			var r recorder
			if err := s.Load(t.Context(), bytes.NewReader(tc.archive), nil, r.add); err != nil {
				t.Fatal(err)
			}
			if len(r.msgs) != 1 || r.msgs[0].Stream != tc.want {
				t.Errorf("messages %+v, want %q", r.msgs, tc.want)
			}
			root := mounted(t, s, "c1", tc.ref)
			if _, err := os.Stat(filepath.Join(root, "bin/busybox")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLoadOfBrokenArchives(t *testing.T) {
	img := small(t)
	oci, docker := ociArchive(t, "tool:v1", img), dockerArchive(t, "tool:v1", img)
	escaping, err := images.Build(v1.Config{}, images.Layer{Files: []images.File{{Name: "../../escaped", Body: "x"}}})
	if err != nil {
		t.Fatal(err)
	}
	layout := images.File{Name: "oci-layout", Body: `{"imageLayoutVersion":"1.0.0"}`}
	tar := func(files ...images.File) []byte {
		raw, err := images.Tar(files...)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for _, tc := range []struct {
		what    string
		archive []byte
		want    string
	}{
		{"nothing", nil, "unrecognized image format"},
		{"no tar", bytes.Repeat([]byte("garbage "), 1000), "invalid tar header"},
		{"another tar", tar(images.File{Name: "hello", Body: "x"}), "unrecognized image format"},
		{"cut off", oci[:len(oci)/1024*512+100], "unexpected EOF"},
		{"cut off between files", oci[:bytes.Index(oci, []byte("blobs/sha256/"))], "lacks content"},
		{"gzip cut off", gzipped(t, oci)[:500], "unexpected EOF"},
		{"docker cut off", docker[:len(docker)/1024*512+100], "unexpected EOF"},
		{"flipped bit", flip(oci, []byte("blobs/sha256/")), "has the digest sha256:"},
		{"missing blob", without(t, oci), "lacks content"},
		{"missing layer", tar(images.File{Name: "manifest.json", Body: `[{"Config":"c.json","RepoTags":["tool:v1"],"Layers":["l.tar"]}]`},
			images.File{Name: "c.json", Body: `{}`}), `layer "l.tar" not found`},
		{"bad JSON", tar(images.File{Name: "manifest.json", Body: `[{"Config":3}]`}), "manifest.json"},
		{"bad index", tar(layout, images.File{Name: "index.json", Body: `{"manifests":"x"}`}), "is not the JSON"},
		{"empty index", tar(layout, images.File{Name: "index.json", Body: `{}`}), "contains none"},
		{"bad digest", tar(layout, images.File{Name: "index.json",
			Body: `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"../../etc/passwd","size":3}]}`}), "digest"},
		{"unknown type", tar(layout, images.File{Name: "index.json",
			Body: `{"manifests":[{"mediaType":"x/y","digest":"` + images.Hash(nil).String() + `","size":3}]}`}), "unsupported type"},
		{"bad name", tar(images.File{Name: "manifest.json", Body: `[{"Config":"c.json","RepoTags":["NOT A NAME"],"Layers":[]}]`},
			images.File{Name: "c.json", Body: `{}`}), "invalid"},
		{"link without target", tar(images.File{Name: "manifest.json", Body: `[{"Config":"c.json","Layers":["l.tar"]}]`},
			images.File{Name: "l.tar", Link: "../../../etc/passwd"}, images.File{Name: "c.json", Body: `{}`}), "no target for symlink"},
		{"escaping layer", ociArchive(t, "tool:v1", escaping), "outside of the root"},
		{"other version", tar(images.File{Name: "oci-layout", Body: `{"imageLayoutVersion":"9"}`}), "unsupported OCI version"},
		{"xz", []byte("\xfd7zXZ\x00rest"), "xz compression is not supported"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			s := open(t, nil)
			err := s.Load(t.Context(), bytes.NewReader(tc.archive), nil, func(m jsonstream.Message) error {
				t.Errorf("message %+v", m)
				return nil
			})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !errdefs.IsInvalidArgument(err) {
				t.Errorf("error %v, want an invalid-argument error with %q", err, tc.want)
			}
			wantEmpty(t, s)
		})
	}
}

// flip changes the first byte of the first file whose name begins with prefix.
func flip(raw, prefix []byte) []byte {
	out := bytes.Clone(raw)
	out[bytes.Index(out, prefix)+512] ^= 1
	return out
}

// without drops the first blob.
func without(t *testing.T, raw []byte) []byte {
	t.Helper()
	at := bytes.Index(raw, []byte("blobs/sha256/"))
	var size int
	if _, err := fmt.Sscanf(string(raw[at+124:at+135]), "%o", &size); err != nil {
		t.Fatal(err)
	}
	end := at + 512 + (size+511)/512*512
	return append(bytes.Clone(raw[:at]), raw[end:]...)
}

func TestLoadAfterOneThatWasCutOff(t *testing.T) {
	s := open(t, nil)
	archive := ociArchive(t, "tool:v1", noisy(t))
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write(archive[:len(archive)/2])
		cancel()
		w.CloseWithError(io.ErrUnexpectedEOF)
	}()
	if err := s.Load(ctx, r, nil, discard); err == nil {
		t.Fatal("half an archive was loaded")
	}
	wantEmpty(t, s)
	if err := s.Load(t.Context(), bytes.NewReader(archive), nil, discard); err != nil {
		t.Error(err)
	}
}

func TestSaveAndLoad(t *testing.T) {
	s := open(t, nil)
	load(t, s, "tool:v1", withFile(t, "one"))
	load(t, s, "tool:v2", withFile(t, "two"))
	load(t, s, "other:v1", withFile(t, "three"))
	id, _, err := s.Config(t.Context(), "other:v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		refs []string
		want string
	}{
		{[]string{"tool:v1"}, "Loaded image: tool:v1\n"},
		{[]string{"tool"}, "Loaded image: tool:v1\nLoaded image: tool:v2\n"},
		{[]string{"tool:v2", "other:v1"}, "Loaded image: tool:v2\nLoaded image: other:v1\n"},
		{[]string{id[7:19]}, "Loaded image ID: " + id + "\n"},
	} {
		var archive bytes.Buffer
		if err := s.Save(t.Context(), tc.refs, nil, &archive); err != nil {
			t.Fatal(err)
		}
		fresh := open(t, nil)
		var r recorder
		if err := fresh.Load(t.Context(), bytes.NewReader(archive.Bytes()), nil, r.add); err != nil {
			t.Fatal(err)
		}
		if r.text() != tc.want {
			t.Errorf("saving %q and loading says %q, want %q", tc.refs, r.text(), tc.want)
		}
		if !bytes.Contains(archive.Bytes(), []byte("manifest.json")) {
			t.Error("old engines cannot load the archive: it has no manifest.json")
		}
	}
	err = s.Save(t.Context(), []string{"missing:v1"}, nil, io.Discard)
	if err == nil || err.Error() != "No such image: missing:v1" {
		t.Errorf("saving what is not here: %v", err)
	}
}

func TestImport(t *testing.T) {
	raw, err := images.Tar(images.File{Name: "f", Body: "x"})
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, nil)
	id, err := s.Import(t.Context(), bytes.NewReader(gzipped(t, raw)), "mine", "from a tar", []string{`CMD ["/f"]`, "ENV A=b"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Inspect(t.Context(), "mine:latest", nil)
	if err != nil || got.ID != id || got.Comment != "from a tar" || got.Config.Cmd[0] != "/f" || got.Config.Env[0] != "A=b" {
		t.Errorf("%+v, %v", got, err)
	}
	if got := tree(t, mounted(t, s, "c", id)); got != "f" {
		t.Errorf("the root filesystem has %q", got)
	}

	fresh := open(t, nil)
	for what, tc := range map[string]struct {
		tar     []byte
		ref     string
		changes []string
		want    string
	}{
		"no tar":      {[]byte(strings.Repeat("garbage ", 200)), "x", nil, "failed to register layer"},
		"escaping":    {mustTar(t, images.File{Name: "../x"}), "x", nil, "outside of the root"},
		"bad change":  {raw, "x", []string{"FROM scratch"}, "FROM is not a valid change command"},
		"bad name":    {raw, "X Y", nil, "invalid reference format"},
		"with digest": {raw, "x@" + images.Hash(nil).String(), nil, "digest reference"},
	} {
		if _, err := fresh.Import(t.Context(), bytes.NewReader(tc.tar), tc.ref, "", tc.changes, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", what, err, tc.want)
		}
	}
	wantEmpty(t, fresh)
}

func mustTar(t *testing.T, files ...images.File) []byte {
	t.Helper()
	raw, err := images.Tar(files...)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
