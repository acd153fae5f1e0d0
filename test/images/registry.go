package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// RegistryOptions describes a registry to serve. Its zero value is an open one on a free port of 127.0.0.1.
type RegistryOptions struct {
	Addr               string       // host:port; empty means 127.0.0.1:0
	Username, Password string       // asked for with basic authentication when Username is set
	Listener           net.Listener // instead of Addr
	TLS                *tls.Config
	Wrap               func(http.Handler) http.Handler // sees each request first; may tamper, delay, count or refuse
	Log                *log.Logger                     // of requests; nil means none
}

// Registry is a running registry that holds its images in memory.
type Registry struct {
	store    http.Handler // without authentication and Wrap
	listener net.Listener
	server   *http.Server
	scheme   string
}

// Serve starts a registry. Close ends it.
func Serve(o RegistryOptions) (*Registry, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Log == nil {
		o.Log = log.New(io.Discard, "", 0)
	}
	l := o.Listener
	if l == nil {
		var lc net.ListenConfig
		var err error
		if l, err = lc.Listen(context.Background(), "tcp", o.Addr); err != nil {
			return nil, fmt.Errorf("listening for the registry: %w", err)
		}
	}
	r := &Registry{store: registry.New(registry.Logger(o.Log)), listener: l, scheme: "http"}
	h := r.store
	if o.Wrap != nil {
		h = o.Wrap(h)
	}
	if o.Username != "" {
		h = basicAuth(h, o.Username, o.Password)
	}
	r.server = &http.Server{Handler: h, ErrorLog: o.Log}
	if o.TLS != nil {
		r.scheme = "https"
		l = tls.NewListener(l, o.TLS)
	}
	go func() { _ = r.server.Serve(l) }() // ends with Close
	return r, nil
}

func basicAuth(next http.Handler, username, password string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, p, _ := r.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(u+"\x00"+p), []byte(username+"\x00"+password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Host is the host:port to use in image names.
func (r *Registry) Host() string { return r.listener.Addr().String() }

// URL is the registry as a mirror is configured.
func (r *Registry) URL() string { return r.scheme + "://" + r.Host() }

// Close ends the registry and the connections to it.
func (r *Registry) Close() error { return r.server.Close() }

// Add puts an image under "repository:tag"; the images of Docker Hub without a namespace are "library/NAME".
func (r *Registry) Add(ref string, img v1.Image) error {
	repo, tag, ok := strings.Cut(ref, ":")
	if !ok {
		return fmt.Errorf("adding %q: requires repository:tag", ref)
	}
	blobs, err := imageBlobs(img)
	if err != nil {
		return err
	}
	for _, b := range blobs[:len(blobs)-1] {
		if err := r.AddBlob(repo, b.data); err != nil {
			return err
		}
	}
	mediaType, err := img.MediaType()
	if err != nil {
		return err
	}
	return r.AddManifest(repo, tag, mediaType, blobs[len(blobs)-1].data)
}

// AddIndex puts a multi-platform image and its images under "repository:tag".
func (r *Registry) AddIndex(ref string, idx v1.ImageIndex) error {
	repo, tag, ok := strings.Cut(ref, ":")
	if !ok {
		return fmt.Errorf("adding %q: requires repository:tag", ref)
	}
	manifest, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range manifest.Manifests {
		img, err := idx.Image(d.Digest)
		if err != nil {
			return err
		}
		if err := r.Add(repo+":"+d.Digest.Hex, img); err != nil {
			return err
		}
	}
	raw, err := idx.RawManifest()
	if err != nil {
		return err
	}
	return r.AddManifest(repo, tag, types.OCIImageIndex, raw)
}

// AddBlob puts a blob into a repository.
func (r *Registry) AddBlob(repo string, data []byte) error {
	return r.put(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+Hash(data).String(), "application/octet-stream", data)
}

// AddManifest puts raw bytes as a manifest, whether or not they are one. tag may be a digest.
func (r *Registry) AddManifest(repo, tag string, mediaType types.MediaType, data []byte) error {
	return r.put(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, string(mediaType), data)
}

func (r *Registry) put(method, path, contentType string, data []byte) error {
	req := httptest.NewRequestWithContext(context.Background(), method, path, bytes.NewReader(data))
	req.Header.Set("Content-Type", contentType)
	rec := httptest.NewRecorder()
	r.store.ServeHTTP(rec, req)
	if rec.Code >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %d %s", method, path, rec.Code, rec.Body)
	}
	return nil
}

// Hash is the SHA-256 digest of data.
func Hash(data []byte) v1.Hash {
	sum := sha256.Sum256(data)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}
