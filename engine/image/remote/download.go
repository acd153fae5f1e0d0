package remote

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
)

// Download opens what a web server has under a URL, which may lack its "http://". A server that says no makes an error of the kind
// that it names: errdefs.ErrNotFound when there is nothing. The body ends with an error when it stalls, and is not bounded.
func (r *Registries) Download(ctx context.Context, source string) (io.ReadCloser, error) {
	if !strings.Contains(source, "://") {
		source = "http://" + source
	}
	u, err := url.Parse(source)
	switch {
	case err != nil:
		return nil, invalid("invalid source: %v", err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, invalid("invalid source %q: requires http:// or https:// and a host", u.Redacted())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, invalid("invalid source: %v", err)
	}
	if r.userAgent != "" {
		req.Header.Set("User-Agent", r.userAgent)
	}
	t := transport(false)
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		t.CloseIdleConnections()
		return nil, fmt.Errorf("downloading %s: %w", u.Redacted(), withoutURL(err))
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		t.CloseIdleConnections()
		return nil, statusKind(resp.StatusCode).WithMessage(fmt.Sprintf("downloading %s: the server answers %s", u.Redacted(), resp.Status))
	}
	return &download{resp.Body, t}, nil
}

// withoutURL drops the URL of a client's error, in which a password may be.
func withoutURL(err error) error {
	if e, ok := err.(*url.Error); ok {
		return e.Err
	}
	return err
}

// messenger is a kind of errdefs, which makes errors of its own.
type messenger interface{ WithMessage(string) error }

func statusKind(code int) messenger {
	switch code {
	case http.StatusNotFound, http.StatusGone:
		return errdefs.ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return errdefs.ErrPermissionDenied
	}
	return errdefs.ErrUnavailable
}

// download is a body whose connection ends with it.
type download struct {
	io.ReadCloser
	transport *http.Transport
}

func (d *download) Close() error {
	err := d.ReadCloser.Close()
	d.transport.CloseIdleConnections()
	return err
}
