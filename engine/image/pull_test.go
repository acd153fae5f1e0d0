//go:build linux

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/test/images"
)

func TestPullThroughMirrorAndRun(t *testing.T) {
	reg := serve(t, images.RegistryOptions{})
	if err := reg.Add("library/busybox:1.24", busybox(t)); err != nil {
		t.Fatal(err)
	}
	log := &eventLog{}
	s := open(t, func(c *Config) { c.Mirrors, c.Events = []string{reg.URL()}, log })
	var r recorder
	if err := s.Pull(t.Context(), "busybox:1.24", nil, nil, r.add); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"1.24: Pulling from library/busybox\n", ": Pulling fs layer\n", ": Downloading\n", ": Download complete\n", ": Extracting\n",
		": Pull complete\n", "Digest: sha256:", "Status: Downloaded newer image for busybox:1.24\n",
	} {
		if !strings.Contains(r.text(), want) {
			t.Errorf("progress lacks %q:\n%s", want, r.text())
		}
	}
	if !log.has(events.ActionPull) {
		t.Error("no pull event")
	}
	id, config, err := s.Config(t.Context(), "busybox:1.24", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Config.Cmd) != 1 || config.Config.Cmd[0] != "sh" {
		t.Errorf("Cmd is %q, want sh", config.Config.Cmd)
	}
	configDigest, err := busybox(t).ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{
		"busybox:1.24", "docker.io/library/busybox:1.24", id, id[7:], id[7:19], "busybox@" + id, "busybox:1.24@" + id, configDigest.String(),
	} {
		if got, _, err := s.Config(t.Context(), ref, nil); err != nil || got != id {
			t.Errorf("Config(%q) = %q, %v; want %q", ref, got, err, id)
		}
	}
	root := mounted(t, s, "c1", id)
	if target, err := os.Readlink(filepath.Join(root, "bin/sh")); err != nil || target != "/bin/busybox" {
		t.Errorf("/bin/sh is a link to %q (%v), want /bin/busybox", target, err)
	}

	var again recorder
	if err := s.Pull(t.Context(), "busybox:1.24", nil, nil, again.add); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(again.text(), "Status: Image is up to date for busybox:1.24\n") {
		t.Errorf("second pull says:\n%s", again.text())
	}
}

func TestPullWithCredentials(t *testing.T) {
	reg := serve(t, images.RegistryOptions{Username: "ann", Password: "secret"})
	if err := reg.Add("private/tool:v1", small(t)); err != nil {
		t.Fatal(err)
	}
	name := reg.Host() + "/private/tool"
	for _, tc := range []struct {
		what string
		auth *registry.AuthConfig
		want string // of the error; empty means success
	}{
		{"right", &registry.AuthConfig{Username: "ann", Password: "secret"}, ""},
		{"for this server", &registry.AuthConfig{Username: "ann", Password: "secret", ServerAddress: "http://" + reg.Host() + "/v2/"}, ""},
		{"encoded", &registry.AuthConfig{Auth: "YW5uOnNlY3JldA=="}, ""},
		{"wrong", &registry.AuthConfig{Username: "ann", Password: "guess"}, "pull access denied for " + name + ", repository does not exist or may require 'docker login'"},
		{"for another server", &registry.AuthConfig{Username: "ann", Password: "secret", ServerAddress: "other.example"}, "no basic auth credentials"},
		{"none", nil, "no basic auth credentials"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			s := open(t, nil)
			err := s.Pull(t.Context(), name+":v1", nil, tc.auth, discard)
			switch {
			case tc.want == "" && err != nil:
				t.Fatal(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || !errdefs.IsNotFound(err)):
				t.Fatalf("error %v, want a not-found error with %q", err, tc.want)
			case tc.want != "":
				if strings.Contains(err.Error(), "guess") || strings.Contains(err.Error(), "secret") {
					t.Errorf("the error tells a password: %v", err)
				}
				wantEmpty(t, s)
			}
		})
	}
}

func TestMirrorIsNotGivenCredentials(t *testing.T) {
	var leaked atomic.Bool
	reg := serve(t, images.RegistryOptions{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				leaked.Store(true)
			}
			next.ServeHTTP(w, r)
		})
	}})
	if err := reg.Add("library/tool:v1", small(t)); err != nil {
		t.Fatal(err)
	}
	s := open(t, func(c *Config) { c.Mirrors = []string{reg.URL()} })
	auth := &registry.AuthConfig{Username: "ann", Password: "secret", RegistryToken: "token"}
	if err := s.Pull(t.Context(), "tool:v1", nil, auth, discard); err != nil {
		t.Fatal(err)
	}
	if leaked.Load() {
		t.Error("the mirror was sent credentials meant for Docker Hub")
	}
}

func TestPullErrorsAreWordedAsDocker(t *testing.T) {
	reg := serve(t, images.RegistryOptions{})
	if err := reg.Add("tool:v1", small(t)); err != nil {
		t.Fatal(err)
	}
	s := open(t, nil)
	for _, tc := range []struct{ ref, want string }{
		{reg.Host() + "/tool:v2", "manifest for " + reg.Host() + "/tool:v2 not found: manifest unknown: manifest unknown"},
		{reg.Host() + "/nothing:v1", "manifest for " + reg.Host() + "/nothing:v1 not found: manifest unknown: manifest unknown"},
	} {
		if err := s.Pull(t.Context(), tc.ref, nil, nil, discard); err == nil || err.Error() != tc.want || !errdefs.IsNotFound(err) {
			t.Errorf("pulling %s: %v, want %s", tc.ref, err, tc.want)
		}
	}
	if err := s.Pull(t.Context(), "Not A Name", nil, nil, discard); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "invalid reference format") {
		t.Errorf("pulling a bad name: %v", err)
	}
	_, _, err := s.Config(t.Context(), "tool:v1", nil)
	if err == nil || err.Error() != "No such image: tool:v1" || !errdefs.IsNotFound(err) {
		t.Errorf("Config of what is not here: %v", err)
	}
	wantEmpty(t, s)
}

func TestPullFromInsecureTLS(t *testing.T) {
	reg := serve(t, images.RegistryOptions{TLS: &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}})
	if err := reg.Add("tool:v1", small(t)); err != nil {
		t.Fatal(err)
	}
	s := open(t, nil)
	if err := s.Pull(t.Context(), reg.Host()+"/tool:v1", nil, nil, discard); err != nil {
		t.Errorf("127.0.0.0/8 is to be trusted without a certificate: %v", err)
	}
}

func TestPullByDigestAndAllTags(t *testing.T) {
	reg := serve(t, images.RegistryOptions{})
	img := small(t)
	for _, tag := range []string{"v1", "v2"} {
		if err := reg.Add("tool:"+tag, img); err != nil {
			t.Fatal(err)
		}
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, nil)
	var r recorder
	if err := s.Pull(t.Context(), reg.Host()+"/tool@"+digest.String(), nil, nil, r.add); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.text(), digest.String()+": Pulling from tool") {
		t.Errorf("progress:\n%s", r.text())
	}
	if err := s.Pull(t.Context(), reg.Host()+"/tool", nil, nil, discard); err != nil {
		t.Fatal(err)
	}
	list, err := s.List(t.Context(), ListOptions{})
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v; want one image", list, err)
	}
	if len(list[0].RepoTags) != 2 || len(list[0].RepoDigests) != 1 {
		t.Errorf("tags %q, digests %q; want two and one", list[0].RepoTags, list[0].RepoDigests)
	}
}

func TestPullChoosesThePlatform(t *testing.T) {
	amd := platformImage(t, v1.Platform{OS: "linux", Architecture: "amd64"})
	arm := platformImage(t, v1.Platform{OS: "linux", Architecture: "arm64"})
	idx, err := images.Index(amd, arm)
	if err != nil {
		t.Fatal(err)
	}
	reg := serve(t, images.RegistryOptions{})
	if err := reg.AddIndex("tool:v1", idx); err != nil {
		t.Fatal(err)
	}
	if err := reg.Add("single:v1", arm); err != nil {
		t.Fatal(err)
	}
	ref := reg.Host() + "/tool:v1"
	arm64 := &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	s := open(t, func(c *Config) { c.Platform = ocispec.Platform{OS: "linux", Architecture: "amd64"} })

	if err := s.Pull(t.Context(), ref, &ocispec.Platform{OS: "linux", Architecture: "s390x"}, nil, discard); err == nil ||
		!strings.Contains(err.Error(), "no matching manifest for linux/s390x in the manifest list entries") {
		t.Errorf("pulling for s390x: %v", err)
	}
	wantEmpty(t, s)
	if err := s.Pull(t.Context(), ref, nil, nil, discard); err != nil {
		t.Fatal(err)
	}
	if _, c, err := s.Config(t.Context(), ref, nil); err != nil || c.Architecture != "amd64" {
		t.Errorf("architecture %q, %v; want the host's", c.Architecture, err)
	}
	if _, _, err := s.Config(t.Context(), ref, arm64); err == nil || !strings.Contains(err.Error(), "does not provide the specified platform (linux/arm64)") {
		t.Errorf("the platform that was not pulled: %v", err)
	}
	if err := s.Pull(t.Context(), ref, arm64, nil, discard); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*ocispec.Platform{nil, arm64} {
		if err := s.PrepareRootFS(t.Context(), fmt.Sprint("c", p != nil), ref, p); err != nil {
			t.Errorf("PrepareRootFS for %v: %v", p, err)
		}
	}
	amd64 := &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	if err := s.Pull(t.Context(), reg.Host()+"/single:v1", amd64, nil, discard); !errdefs.IsNotFound(err) {
		t.Errorf("pulling an image of another platform than asked for: %v", err)
	}
}

// TestTamperedContentIsRefused serves wrong bytes for each kind of blob, and checks that nothing of it stays.
func TestTamperedContentIsRefused(t *testing.T) {
	img := small(t)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ what, path string }{
		{"layer", "/blobs/" + layer.String()}, {"configuration", "/blobs/" + config.String()}, {"manifest", "/manifests/sha256:"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			var honest atomic.Bool
			reg := serve(t, images.RegistryOptions{Wrap: tamper(tc.path, &honest)})
			if err := reg.Add("tool:v1", img); err != nil {
				t.Fatal(err)
			}
			s := open(t, nil)
			err := s.Pull(t.Context(), reg.Host()+"/tool:v1", nil, nil, discard)
			if err == nil || !strings.Contains(err.Error(), "verification failed for digest sha256:") {
				t.Fatalf("error %v, want one that names the digest", err)
			}
			wantEmpty(t, s)
			honest.Store(true)
			if err := s.Pull(t.Context(), reg.Host()+"/tool:v1", nil, nil, discard); err != nil {
				t.Errorf("pulling again from an honest registry: %v", err)
			}
		})
	}
}

// tamper flips a bit in the answers to GET requests whose path contains part.
func tamper(part string, honest *atomic.Bool) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || honest.Load() || !strings.Contains(r.URL.Path, part) {
				next.ServeHTTP(w, r)
				return
			}
			b := &body{header: w.Header()}
			next.ServeHTTP(b, r)
			raw := b.Bytes()
			raw[len(raw)/2] ^= 1
			_, _ = w.Write(raw)
		})
	}
}

type body struct {
	bytes.Buffer
	header http.Header
}

func (b *body) Header() http.Header { return b.header }
func (b *body) WriteHeader(int)     {}

func TestLayerWithAnotherContentThanPromisedIsRefused(t *testing.T) {
	reg := serve(t, images.RegistryOptions{})
	img := small(t)
	blob, err := images.Tar(images.File{Name: "other", Body: "x"})
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	pushRaw(t, reg, "tool", config, blob)
	s := open(t, nil)
	err = s.Pull(t.Context(), reg.Host()+"/tool:v1", nil, nil, discard)
	if err == nil || !strings.Contains(err.Error(), "failed to register layer") || !strings.Contains(err.Error(), "the configuration says sha256:") {
		t.Fatalf("error %v", err)
	}
	wantEmpty(t, s)
}

// pushRaw puts an image of one uncompressed layer under NAME:v1.
func pushRaw(t *testing.T, reg *images.Registry, name string, config, layer []byte) {
	t.Helper()
	for _, b := range [][]byte{config, layer} {
		if err := reg.AddBlob(name, b); err != nil {
			t.Fatal(err)
		}
	}
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		types.OCIManifestSchema1, types.OCIConfigJSON, images.Hash(config), len(config), images.Hash(layer), len(layer))
	if err := reg.AddManifest(name, "v1", types.OCIManifestSchema1, []byte(manifest)); err != nil {
		t.Fatal(err)
	}
}

// configOf is the configuration of an image of one uncompressed layer.
func configOf(layer []byte) []byte {
	return fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[%q]}}`, images.Hash(layer))
}

func TestLayersThatLeaveTheRoot(t *testing.T) {
	for _, tc := range []struct {
		what  string
		files []images.File
		want  string // of the error; empty means that the layer is harmless
	}{
		{"name", []images.File{{Name: "../../../../tmp/escaped", Body: "x"}}, `"../../../../tmp/escaped" is outside of the root`},
		{"inner name", []images.File{{Name: "a/../../escaped", Body: "x"}}, "is outside of the root"},
		{"hard link", []images.File{{Name: "passwd", Link: "../../../etc/passwd", Type: tar.TypeLink}}, "outside of the root"},
		{"symbolic link", []images.File{{Name: "out", Link: "/OUTSIDE"}, {Name: "out/escaped", Body: "x"}}, ""},
		{"relative symbolic link", []images.File{{Name: "out", Link: "../../../../../../../../OUTSIDE"}, {Name: "out/escaped", Body: "x"}}, ""},
		{"hard link through a symbolic link", []images.File{{Name: "out", Link: "/OUTSIDE"}, {Name: "h", Link: "out/escaped", Type: tar.TypeLink}}, "no such file"},
		{"whiteout", []images.File{{Name: "out", Link: "/OUTSIDE"}, {Name: "out/.wh.victim"}}, ""},
	} {
		t.Run(tc.what, func(t *testing.T) {
			outside := t.TempDir()
			if err := os.WriteFile(filepath.Join(outside, "victim"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for i := range tc.files {
				tc.files[i].Link = strings.Replace(tc.files[i].Link, "/OUTSIDE", outside, 1)
			}
			layer := mustTar(t, tc.files...)
			reg := serve(t, images.RegistryOptions{})
			pushRaw(t, reg, "evil", configOf(layer), layer)
			s := open(t, nil)
			err := s.Pull(t.Context(), reg.Host()+"/evil:v1", nil, nil, discard)
			if tc.want == "" && err != nil {
				t.Errorf("error %v, want none", err)
			}
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %v, want %q", err, tc.want)
				}
				wantEmpty(t, s)
			}
			left, err := os.ReadDir(outside)
			if err != nil || len(left) != 1 || left[0].Name() != "victim" {
				t.Errorf("outside of the root there is now %v (%v)", left, err)
			}
		})
	}
}

func TestWhiteoutsHideWhatIsBelow(t *testing.T) {
	img, err := images.Build(v1.Config{},
		images.Layer{Files: []images.File{{Name: "a/"}, {Name: "a/1"}, {Name: "a/2"}, {Name: "b/"}, {Name: "b/1"}, {Name: "c"}}},
		images.Layer{Files: []images.File{{Name: "a/.wh.1"}, {Name: "b/.wh..wh..opq"}, {Name: "b/2"}, {Name: ".wh.c"}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	reg := serve(t, images.RegistryOptions{})
	if err := reg.Add("tool:v1", img); err != nil {
		t.Fatal(err)
	}
	for _, driver := range []string{Overlay, Native} {
		t.Run(driver, func(t *testing.T) {
			s := open(t, func(c *Config) { c.StorageDriver = driver })
			if err := s.Pull(t.Context(), reg.Host()+"/tool:v1", nil, nil, discard); err != nil {
				t.Fatal(err)
			}
			root := mounted(t, s, "c1", reg.Host()+"/tool:v1")
			if got := tree(t, root); got != "a a/2 b b/2" {
				t.Errorf("the root filesystem has %q, want a a/2 b b/2", got)
			}
		})
	}
}

func TestGiantManifests(t *testing.T) {
	var read atomic.Int64
	endless := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		if r.Method == http.MethodHead {
			return
		}
		chunk := bytes.Repeat([]byte(" "), 64<<10)
		for range (1 << 30) / len(chunk) {
			n, err := w.Write(chunk)
			read.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	honestAboutIt := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(1<<30))
		w.Header().Set("Docker-Content-Digest", images.Hash(nil).String())
		endless(w, r)
	}
	lying := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Length", "1000")
		}
		w.Header().Set("Docker-Content-Digest", images.Hash(nil).String())
		endless(w, r)
	}
	for what, h := range map[string]http.HandlerFunc{"endless": endless, "announced": honestAboutIt, "lying": lying} {
		t.Run(what, func(t *testing.T) {
			read.Store(0)
			reg := serve(t, images.RegistryOptions{Wrap: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.Contains(r.URL.Path, "/manifests/") {
						h(w, r)
						return
					}
					next.ServeHTTP(w, r)
				})
			}})
			s := open(t, nil)
			err := s.Pull(t.Context(), reg.Host()+"/tool:v1", nil, nil, discard)
			if err == nil {
				t.Fatal("a manifest of 1 GiB was accepted")
			}
			t.Log(err)
			if n := read.Load(); n > 64<<20 {
				t.Errorf("%d bytes were sent, want it to hang up soon", n)
			}
			wantEmpty(t, s)
		})
	}
}

func TestTooManyLayers(t *testing.T) {
	layer, err := images.Tar(images.File{Name: "f"})
	if err != nil {
		t.Fatal(err)
	}
	reg := serve(t, images.RegistryOptions{})
	config := configOf(layer)
	for _, b := range [][]byte{config, layer} {
		if err := reg.AddBlob("tool", b); err != nil {
			t.Fatal(err)
		}
	}
	one := fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}`, images.Hash(layer), len(layer))
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[%s]}`,
		types.OCIManifestSchema1, types.OCIConfigJSON, images.Hash(config), len(config), strings.Repeat(one+",", 9999)+one)
	if err := reg.AddManifest("tool", "v1", types.OCIManifestSchema1, []byte(manifest)); err != nil {
		t.Fatal(err)
	}
	s := open(t, nil)
	err = s.Pull(t.Context(), reg.Host()+"/tool:v1", nil, nil, discard)
	if err == nil || !strings.Contains(err.Error(), "has 10000 layers; at most 256 are supported") {
		t.Errorf("error %v", err)
	}
	wantEmpty(t, s)
}

func TestManyLayersMount(t *testing.T) {
	layers := make([]images.Layer, maxLayers)
	for i := range layers {
		layers[i] = images.Layer{Files: []images.File{{Name: fmt.Sprint("f", i)}}}
	}
	img, err := images.Build(v1.Config{}, layers...)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := images.WriteOCIArchive(&archive, "many:v1", img); err != nil {
		t.Fatal(err)
	}
	s := open(t, nil)
	if err := s.Load(t.Context(), &archive, nil, discard); err != nil {
		t.Fatal(err)
	}
	root := mounted(t, s, "c1", "many:v1")
	if n := len(strings.Fields(tree(t, root))); n != maxLayers {
		t.Errorf("%d files, want one of each of %d layers", n, maxLayers)
	}
}

// gate stops blobs half-way until it is opened.
type gate struct {
	reached chan struct{} // gets a token for each blob that is stopped
	open    chan struct{}
	gets    atomic.Int64 // of whole blobs
	ranges  atomic.Int64 // of parts
}

func newGate() *gate { return &gate{reached: make(chan struct{}, 100), open: make(chan struct{})} }

func (g *gate) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			next.ServeHTTP(w, r)
			return
		}
		b := &body{header: http.Header{}}
		whole := r.Clone(r.Context())
		whole.Header.Del("Range")
		next.ServeHTTP(b, whole)
		raw := b.Bytes()
		if len(raw) < 64<<10 { // a configuration
			_, _ = w.Write(raw)
			return
		}
		var from int
		if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); n == 1 && from > 0 {
			g.ranges.Add(1)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(raw)-1, len(raw)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(raw[from:])
			return
		}
		g.gets.Add(1)
		w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
		_, _ = w.Write(raw[:len(raw)/2])
		_ = http.NewResponseController(w).Flush()
		g.reached <- struct{}{}
		select {
		case <-g.open:
			_, _ = w.Write(raw[len(raw)/2:])
		case <-r.Context().Done():
		}
	})
}

// noisy is an image with one layer of 1 MiB that does not compress.
func noisy(t *testing.T) v1.Image { return noise(t, 1<<20) }

func noise(t *testing.T, size int) v1.Image {
	t.Helper()
	raw := make([]byte, size)
	if _, err := io.ReadFull(rand.Reader, raw); err != nil {
		t.Fatal(err)
	}
	img, err := images.Build(v1.Config{}, images.Layer{Files: []images.File{{Name: "noise", Body: string(raw)}}})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestPullCutOffIsResumed(t *testing.T) {
	g := newGate()
	reg := serve(t, images.RegistryOptions{Wrap: g.wrap})
	if err := reg.Add("tool:v1", noisy(t)); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	s := openAt(t, root, nil)
	ref := reg.Host() + "/tool:v1"
	ctx, hangUp := context.WithCancel(t.Context())
	downloading := make(chan struct{})
	var once sync.Once
	go func() { <-g.reached; <-downloading; hangUp() }()
	err := s.Pull(ctx, ref, nil, nil, func(m jsonstream.Message) error {
		if m.Status == "Downloading" {
			once.Do(func() { close(downloading) })
		}
		return nil
	})
	if err == nil {
		t.Fatal("a pull that was cut off says it succeeded")
	}
	if list, err := s.List(t.Context(), ListOptions{All: true}); err != nil || len(list) != 0 {
		t.Errorf("after it, images are %v (%v), want none", list, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	again := openAt(t, root, nil)
	close(g.open)
	if err := again.Pull(t.Context(), ref, nil, nil, discard); err != nil {
		t.Fatal(err)
	}
	if g.ranges.Load() == 0 {
		t.Error("the second pull began from nothing")
	}
	if err := again.PrepareRootFS(t.Context(), "c", ref, nil); err != nil {
		t.Error(err)
	}
}

func TestPullOntoFullDisk(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=3m"); err != nil {
		t.Skipf("requires to mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	reg := serve(t, images.RegistryOptions{})
	if err := reg.Add("tool:v1", noise(t, 4<<20)); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, root, nil)
	err := s.Pull(t.Context(), reg.Host()+"/tool:v1", nil, nil, discard)
	if err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Fatalf("error %v, want one that tells of the disk", err)
	}
	wantEmpty(t, s)
}

func TestConcurrentPullsShareOne(t *testing.T) {
	g := newGate()
	reg := serve(t, images.RegistryOptions{Wrap: g.wrap})
	if err := reg.Add("tool:v1", noisy(t)); err != nil {
		t.Fatal(err)
	}
	s := open(t, nil)
	ref := reg.Host() + "/tool:v1"
	first, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	firstDone := make(chan error, 1)
	go func() { firstDone <- s.Pull(first, ref, nil, nil, discard) }()
	<-g.reached
	var others sync.WaitGroup
	joined := make(chan struct{}, 5)
	var late [5]recorder
	for i := range late {
		others.Go(func() {
			var once sync.Once
			err := s.Pull(t.Context(), ref, nil, nil, func(m jsonstream.Message) error {
				once.Do(func() { joined <- struct{}{} })
				return late[i].add(m)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range late {
		<-joined
	}
	hangUp() // the client that began it goes
	if err := <-firstDone; err == nil {
		t.Error("the client that hung up is told success")
	}
	close(g.open)
	others.Wait()
	if n := g.gets.Load(); n != 1 {
		t.Errorf("the layer was fetched %d times, want once", n)
	}
	for i := range late {
		for _, want := range []string{"Pulling from tool", "Pulling fs layer", "Pull complete", "Digest: "} {
			if !strings.Contains(late[i].text(), want) {
				t.Errorf("client %d was not told %q:\n%s", i, want, late[i].text())
			}
		}
	}
}

func TestPullOfNewerImageKeepsTheOld(t *testing.T) {
	reg := serve(t, images.RegistryOptions{})
	s := open(t, nil)
	ref := reg.Host() + "/tool:v1"
	for _, body := range []string{"old", "new"} {
		if err := reg.Add("tool:v1", withFile(t, body)); err != nil {
			t.Fatal(err)
		}
		if err := s.Pull(t.Context(), ref, nil, nil, discard); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.List(t.Context(), ListOptions{})
	if err != nil || len(list) != 2 {
		t.Fatalf("%d images (%v), want the new one and the old one without a name", len(list), err)
	}
	tagged := 0
	for _, sum := range list {
		tagged += len(sum.RepoTags)
	}
	if tagged != 1 {
		t.Errorf("%d tags, want 1: %+v", tagged, list)
	}
}

func small(t *testing.T) v1.Image { return withFile(t, "hello\n") }

func withFile(t *testing.T, body string) v1.Image {
	t.Helper()
	img, err := images.Build(v1.Config{Cmd: []string{"/hello"}, Labels: map[string]string{"body": body}},
		images.Layer{CreatedBy: "COPY hello /", Files: []images.File{{Name: "hello", Mode: 0o755, Body: body}}})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func platformImage(t *testing.T, p v1.Platform) v1.Image {
	t.Helper()
	img, err := images.BuildFor(p, v1.Config{}, images.Layer{Files: []images.File{{Name: p.Architecture}}})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
