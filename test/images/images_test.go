package images

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

func busybox(t *testing.T) v1.Image {
	t.Helper()
	if _, err := os.Stat(BusyboxPath); err != nil {
		t.Skipf("requires busybox-static: %v", err)
	}
	img, err := Busybox()
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestBusyboxIsReproducibleAndComplete(t *testing.T) {
	img := busybox(t)
	first, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := busybox(t).Digest(); err != nil || again != first {
		t.Errorf("building twice gives %v and %v (%v), want one digest", first, again, err)
	}

	var names []string
	rc := mutate.Extract(img)
	defer rc.Close()
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	for _, want := range []string{"bin/busybox", "bin/sh", "bin/echo", "etc/passwd", "tmp", "root"} {
		if !slices.Contains(names, want) && !slices.Contains(names, want+"/") {
			t.Errorf("%s is not in the image", want)
		}
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := len(cf.History); got != 4 {
		t.Errorf("the history has %d lines, want 4", got)
	}
}

func TestRegistryServesWithAuthentication(t *testing.T) {
	reg, err := Serve(RegistryOptions{Username: "ann", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	if err := reg.Add("library/busybox:1.24", busybox(t)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		password string
		want     int
	}{{"secret", http.StatusOK}, {"guess", http.StatusUnauthorized}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, reg.URL()+"/v2/library/busybox/manifests/1.24", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("ann", tc.password)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tc.want {
			t.Errorf("GET with password %q: %d, want %d", tc.password, resp.StatusCode, tc.want)
		}
	}
}

func TestArchivesNameTheImage(t *testing.T) {
	img := busybox(t)
	for _, tc := range []struct {
		name  string
		write func(io.Writer, string, v1.Image) error
		has   string
	}{{"docker", WriteDockerArchive, "manifest.json"}, {"OCI", WriteOCIArchive, "index.json"}} {
		var buf bytes.Buffer
		if err := tc.write(&buf, "busybox:1.24", img); err != nil {
			t.Fatal(err)
		}
		var found string
		for tr := tar.NewReader(&buf); ; {
			h, err := tr.Next()
			if err != nil {
				break
			}
			if h.Name == tc.has {
				body, _ := io.ReadAll(tr)
				found = string(body)
			}
		}
		if !bytes.Contains([]byte(found), []byte("busybox:1.24")) {
			t.Errorf("%s archive: %s is %q, want it to name busybox:1.24", tc.name, tc.has, found)
		}
	}
}
