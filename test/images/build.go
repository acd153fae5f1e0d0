package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// File is one tar entry of a layer, written as it is given: nothing is checked.
type File struct {
	Name string
	Mode int64  // permission bits with setuid (04000), setgid and sticky (01000); zero means 0644, or 0755 for a folder
	Body string // content of a regular file
	Link string // target of a symbolic link, or of a hard link when Type says so
	Type byte   // a tar.Type…; zero means a folder when Name ends in "/", a symbolic link when Link is set, else a regular file

	UID, GID     int
	Major, Minor int64             // of a device
	Xattrs       map[string]string // e.g. "security.capability"
}

// Layer is a change set and the history line that explains it. A layer without files is an empty layer of the history.
type Layer struct {
	Files     []File
	CreatedBy string
}

// epoch dates everything, so that an image built twice has the same digest.
func epoch() time.Time { return time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC) }

// Build makes an image of this machine's architecture. Equal arguments make equal digests.
func Build(config v1.Config, layers ...Layer) (v1.Image, error) {
	return BuildFor(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, config, layers...)
}

// BuildFor makes an image for a platform.
func BuildFor(p v1.Platform, config v1.Config, layers ...Layer) (v1.Image, error) {
	return extend(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), p, config, layers)
}

// Extend makes an image of another and more layers. config replaces that of the other.
func Extend(base v1.Image, config v1.Config, layers ...Layer) (v1.Image, error) {
	cf, err := base.ConfigFile()
	if err != nil {
		return nil, err
	}
	return extend(base, *cf.Platform(), config, layers)
}

func extend(base v1.Image, p v1.Platform, config v1.Config, layers []Layer) (v1.Image, error) {
	var adds []mutate.Addendum
	for _, l := range layers {
		add, err := addendum(l)
		if err != nil {
			return nil, err
		}
		adds = append(adds, add)
	}
	img, err := mutate.Append(base, adds...)
	if err != nil {
		return nil, fmt.Errorf("appending layers: %w", err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture, cf.Variant = p.OS, p.Architecture, p.Variant
	cf.Created = v1.Time{Time: epoch()}
	cf.Config = config
	return mutate.ConfigFile(img, cf)
}

func addendum(l Layer) (mutate.Addendum, error) {
	history := v1.History{Created: v1.Time{Time: epoch()}, CreatedBy: l.CreatedBy, EmptyLayer: len(l.Files) == 0}
	if history.EmptyLayer {
		return mutate.Addendum{History: history}, nil
	}
	raw, err := Tar(l.Files...)
	if err != nil {
		return mutate.Addendum{}, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return mutate.Addendum{}, fmt.Errorf("compressing the layer %q: %w", l.CreatedBy, err)
	}
	return mutate.Addendum{Layer: layer, History: history, MediaType: types.OCILayer}, nil
}

// Index makes a multi-platform image of single ones.
func Index(imgs ...v1.Image) (v1.ImageIndex, error) {
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, img := range imgs {
		cf, err := img.ConfigFile()
		if err != nil {
			return nil, err
		}
		desc := v1.Descriptor{Platform: cf.Platform()}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: desc})
	}
	return idx, nil
}

// Tar writes files as an uncompressed tar.
func Tar(files ...File) ([]byte, error) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, f := range files {
		if err := tw.WriteHeader(f.header()); err != nil {
			return nil, fmt.Errorf("writing %s to the tar: %w", f.Name, err)
		}
		if _, err := io.WriteString(tw, f.Body); err != nil {
			return nil, fmt.Errorf("writing %s to the tar: %w", f.Name, err)
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func (f File) header() *tar.Header {
	h := &tar.Header{
		Name: f.Name, Mode: f.Mode, Size: int64(len(f.Body)), Linkname: f.Link, Typeflag: f.Type,
		Uid: f.UID, Gid: f.GID, Devmajor: f.Major, Devminor: f.Minor, ModTime: epoch(), Format: tar.FormatPAX,
	}
	for k, v := range f.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+k] = v
	}
	if h.Typeflag == 0 {
		h.Typeflag = f.kind()
	}
	if h.Mode == 0 {
		h.Mode = defaultMode(h.Typeflag)
	}
	return h
}

func (f File) kind() byte {
	switch {
	case len(f.Name) > 0 && f.Name[len(f.Name)-1] == '/':
		return tar.TypeDir
	case f.Link != "":
		return tar.TypeSymlink
	default:
		return tar.TypeReg
	}
}

func defaultMode(kind byte) int64 {
	switch kind {
	case tar.TypeDir:
		return 0o755
	case tar.TypeSymlink:
		return 0o777
	default:
		return 0o644
	}
}
