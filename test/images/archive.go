package images

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// WriteDockerArchive writes what `docker save` of an engine without the containerd store writes; ref is "repository:tag".
func WriteDockerArchive(w io.Writer, ref string, img v1.Image) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	return tarball.Write(tag, img, w)
}

// WriteOCIArchive writes an OCI image layout as a tar. ref becomes the annotation that names the image; it may be empty.
func WriteOCIArchive(w io.Writer, ref string, img v1.Image) error {
	blobs, err := imageBlobs(img)
	if err != nil {
		return err
	}
	index, err := ociIndex(ref, img)
	if err != nil {
		return err
	}
	files := []File{{Name: "oci-layout", Body: `{"imageLayoutVersion":"1.0.0"}`}, {Name: "index.json", Body: index}}
	for _, b := range blobs {
		files = append(files, File{Name: "blobs/" + b.digest.Algorithm + "/" + b.digest.Hex, Body: string(b.data)})
	}
	tw := tar.NewWriter(w)
	for _, f := range files {
		if err := tw.WriteHeader(f.header()); err != nil {
			return err
		}
		if _, err := io.WriteString(tw, f.Body); err != nil {
			return err
		}
	}
	return tw.Close()
}

func ociIndex(ref string, img v1.Image) (string, error) {
	digest, err := img.Digest()
	if err != nil {
		return "", err
	}
	raw, err := img.RawManifest()
	if err != nil {
		return "", err
	}
	entry := map[string]any{"mediaType": ocispec.MediaTypeImageManifest, "digest": digest.String(), "size": len(raw)}
	if ref != "" {
		entry["annotations"] = map[string]string{"io.containerd.image.name": ref}
	}
	out, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": []any{entry},
	})
	return string(out), err
}

type blob struct {
	digest v1.Hash
	data   []byte
}

// imageBlobs are the layers, the config and, last, the manifest.
func imageBlobs(img v1.Image) ([]blob, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	var blobs []blob
	for _, l := range layers {
		b, err := layerBlob(l)
		if err != nil {
			return nil, fmt.Errorf("reading a layer: %w", err)
		}
		blobs = append(blobs, b)
	}
	config, err := rawBlob(img.RawConfigFile())
	if err != nil {
		return nil, err
	}
	manifest, err := rawBlob(img.RawManifest())
	if err != nil {
		return nil, err
	}
	return append(blobs, config, manifest), nil
}

func layerBlob(l v1.Layer) (blob, error) {
	digest, err := l.Digest()
	if err != nil {
		return blob{}, err
	}
	rc, err := l.Compressed()
	if err != nil {
		return blob{}, err
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	return blob{digest, data}, err
}

func rawBlob(data []byte, err error) (blob, error) {
	if err != nil {
		return blob{}, err
	}
	return blob{Hash(data), data}, nil
}
