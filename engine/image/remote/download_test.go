package remote

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestDownload(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/file.tar":
			_, _ = io.WriteString(w, "content")
		case "/private.tar":
			w.WriteHeader(http.StatusForbidden)
		case "/moved.tar":
			http.Redirect(w, r, "/file.tar", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	r, err := New(nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		source string
		kind   func(error) bool // nil when there is content
	}{
		{server.URL + "/file.tar", nil},
		{host + "/file.tar", nil},
		{host + "/moved.tar", nil},
		{server.URL + "/nofile.tar", errdefs.IsNotFound},
		{host + "/%2Fdata%2Ffile.tar", errdefs.IsNotFound},
		{server.URL + "/private.tar", errdefs.IsPermissionDenied},
		{"%2Fdata%2Ffile.tar", errdefs.IsInvalidArgument},
		{"file:///etc/passwd", errdefs.IsInvalidArgument},
		{"http://", errdefs.IsInvalidArgument},
	} {
		body, err := r.Download(t.Context(), tc.source)
		if tc.kind != nil {
			if err == nil || !tc.kind(err) {
				t.Errorf("%s: error %v", tc.source, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.source, err)
			continue
		}
		if raw, err := io.ReadAll(body); err != nil || string(raw) != "content" {
			t.Errorf("%s: %q (%v)", tc.source, raw, err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.Download(t.Context(), "http://me:secret@"+host+"/nofile.tar"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v, want one without the password", err)
	}
}
