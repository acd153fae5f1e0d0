package remote

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/registry"
)

func TestInsecure(t *testing.T) {
	r, err := New(nil, []string{"10.0.0.0/8", "registry.example:5000", "plain.example", "fd00::/8"}, "")
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"127.0.0.1:5000": true, "127.9.9.9": true, "[::1]:5000": true, "localhost:5000": true, "localhost": true,
		"10.1.2.3": true, "10.1.2.3:443": true, "11.1.2.3": false, "[fd00::1]:80": true,
		"registry.example:5000": true, "registry.example": false, "registry.example:443": false,
		"plain.example": true, "plain.example:8080": true, "PLAIN.example": true,
	} {
		if got := r.Insecure(t.Context(), host); got != want {
			t.Errorf("Insecure(%q) = %v, want %v", host, got, want)
		}
	}
	// A cancelled lookup is not insecure.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r.Insecure(ctx, "unknown.invalid") {
		t.Error("a host that is not known was taken for insecure")
	}
}

func TestMirrorsComeFirstAndForDockerHubOnly(t *testing.T) {
	r, err := New([]string{"http://127.0.0.1:5000", "https://mirror.example/"}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string][]string{
		"docker.io":    {"http://127.0.0.1:5000", "https://mirror.example", "https://registry-1.docker.io"},
		"quay.example": {"https://quay.example"},
	} {
		s := r.Session(t.Context(), domain, nil)
		var got []string
		for _, h := range s.hosts {
			got = append(got, h.Scheme+"://"+h.Host)
		}
		s.Close()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", domain, d)
		}
	}
}

func TestServerHost(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "registry.example": "registry.example", "registry.example:5000/v2": "registry.example:5000",
		"https://index.docker.io/v1/": "index.docker.io", "http://[::1]:5000/": "[::1]:5000", "://": "",
	} {
		if got := ServerHost(in); got != want {
			t.Errorf("ServerHost(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCredentialsGoToTheirHostOnly(t *testing.T) {
	r, err := New(nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		domain, server, host string
		want                 bool
	}{
		{"docker.io", "https://index.docker.io/v1/", "registry-1.docker.io", true},
		{"docker.io", "", "registry-1.docker.io", true},
		{"docker.io", "docker.io", "registry-1.docker.io", true},
		{"docker.io", "", "evil.example", false},
		{"quay.example", "quay.example", "quay.example", true},
		{"quay.example", "https://index.docker.io/v1/", "quay.example", false},
	} {
		s := r.Session(t.Context(), tc.domain, &registry.AuthConfig{Username: "u", Password: "p", ServerAddress: tc.server})
		u, p, err := s.credentials(tc.domain)(tc.host)
		s.Close()
		if got := u == "u" && p == "p"; got != tc.want || err != nil {
			t.Errorf("%+v: %q %q %v", tc, u, p, err)
		}
	}
}

func TestTagsFollowPages(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/v2/deep/name/tags/list", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("last") == "" {
			w.Header().Set("Link", `</v2/deep/name/tags/list?last=b&n=2>; rel="next"`)
			_, _ = io.WriteString(w, `{"tags":["a","b"]}`)
			return
		}
		_, _ = io.WriteString(w, `{"tags":["c"]}`)
	})
	mux.HandleFunc("/v2/endless/tags/list", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", `</v2/endless/tags/list?last=`+r.URL.Query().Get("last")+`x>; rel="next"`)
		_, _ = io.WriteString(w, `{"tags":["`+strings.Repeat(`a","`, 999)+`a"]}`)
	})
	mux.HandleFunc("/v2/huge/tags/list", func(w http.ResponseWriter, _ *http.Request) {
		for range 1 << 20 {
			if _, err := io.WriteString(w, strings.Repeat(" ", 1024)); err != nil {
				return
			}
		}
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	r, err := New(nil, nil, "berth-test")
	if err != nil {
		t.Fatal(err)
	}
	s := r.Session(t.Context(), host, nil)
	defer s.Close()
	tags := func(name string) ([]string, error) {
		named, err := reference.ParseNormalizedNamed(host + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return s.Tags(t.Context(), named)
	}
	got, err := tags("deep/name")
	if d := cmp.Diff([]string{"a", "b", "c"}, got); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
	if _, err := tags("endless"); !errdefs.IsResourceExhausted(err) {
		t.Errorf("a list without end: %v", err)
	}
	if _, err := tags("huge"); err == nil {
		t.Error("an answer of 1 GiB was read")
	}
	if _, err := tags("missing"); !errdefs.IsNotFound(err) {
		t.Errorf("a repository that is not there: %v", err)
	}
}

func TestBoundedBody(t *testing.T) {
	read := func(n int64) (int, error) {
		b := &boundedBody{ReadCloser: io.NopCloser(strings.NewReader(strings.Repeat("x", 100))), left: n}
		raw, err := io.ReadAll(b)
		return len(raw), err
	}
	if n, err := read(100); n != 100 || err != nil {
		t.Errorf("an answer of the greatest size: %d, %v", n, err)
	}
	if _, err := read(99); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("a longer one: %v", err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("http://m.example", "10.0.0.0/8")
	f.Add("http://[::1]:5000/", "[::1]:5000")
	f.Fuzz(func(t *testing.T, mirror, insecure string) {
		r, err := New([]string{mirror}, []string{insecure}, "")
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v is not invalid-argument", err)
			}
			return
		}
		if r.mirrors[0].Host == "" {
			t.Errorf("the mirror %q has no host", mirror)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add(`</v2/x/tags/list?last=1>; rel="next"`, "https://index.docker.io/v1/", "dTpw")
	f.Add("<//evil.example/x>", "://", "=")
	f.Fuzz(func(t *testing.T, link, server, auth string) {
		if next := nextPage(link); next != "" && next[0] != '/' {
			t.Errorf("nextPage(%q) = %q leaves the host", link, next)
		}
		if strings.Contains(ServerHost(server), "/") {
			t.Errorf("ServerHost(%q) = %q", server, ServerHost(server))
		}
		secrets(registry.AuthConfig{Auth: auth})
	})
}
