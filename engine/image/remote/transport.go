package remote

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
)

const (
	dialTimeout     = 15 * time.Second
	tlsTimeout      = 15 * time.Second
	headerTimeout   = 60 * time.Second // a registry that caches may have to ask its own upstream first
	stallTimeout    = 60 * time.Second // without one byte
	idleTimeout     = 30 * time.Second
	maxIdlePerHost  = 8
	maxManifestSize = 4 << 20 // as the distribution specification wants registries to accept
)

// client makes an HTTP client for one host. Connections are not shared between operations, and end with it.
func (r *Registries) client(host string, insecure bool) *http.Client {
	t := transport(insecure)
	if err := r.trust(t.TLSClientConfig, host); err != nil {
		return &http.Client{Transport: failing{fmt.Errorf("reading the certificates of %s: %w", host, err)}}
	}
	var rt http.RoundTripper = &boundedTransport{base: t, userAgent: r.userAgent}
	if insecure {
		rt = &fallback{RoundTripper: docker.NewHTTPFallback(rt), base: t}
	}
	return &http.Client{Transport: rt}
}

func transport(insecure bool) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &stallConn{Conn: c}, nil
		},
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}, //nolint:gosec // what insecure means
		TLSHandshakeTimeout:   tlsTimeout,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       idleTimeout,
		MaxIdleConnsPerHost:   maxIdlePerHost,
		ForceAttemptHTTP2:     true,
	}
}

// fallback lets http.Client.CloseIdleConnections through.
type fallback struct {
	http.RoundTripper
	base *http.Transport
}

func (f *fallback) CloseIdleConnections() { f.base.CloseIdleConnections() }

// stallConn fails a read or write that makes no progress, so that a registry that falls silent does not hold a pull for ever.
type stallConn struct{ net.Conn }

func (c *stallConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *stallConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// boundedTransport ends any answer but a blob's after maxManifestSize: a manifest, a token or a list of tags that does not end
// must not be read for ever. (Blobs are bounded by the size in the manifest.)
type boundedTransport struct {
	base      *http.Transport
	userAgent string
}

func (t *boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.userAgent != "" {
		req = req.Clone(req.Context())
		req.Header.Set("User-Agent", t.userAgent)
	}
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if !isBlob(req) && req.Method != http.MethodHead {
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxManifestSize}
	}
	return resp, nil
}

func (t *boundedTransport) CloseIdleConnections() { t.base.CloseIdleConnections() }

// isBlob looks at the request that a redirect began with: blobs are often kept elsewhere.
func isBlob(req *http.Request) bool {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return strings.Contains(req.URL.Path, "/blobs/")
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// The answer may end exactly here.
		n, err := b.ReadCloser.Read(p[:min(len(p), 1)])
		if n == 0 {
			return 0, err
		}
		return 0, fmt.Errorf("the registry's answer is longer than %d bytes: %w", maxManifestSize, errdefs.ErrResourceExhausted)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
