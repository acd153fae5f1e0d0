package dosim

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func testServer(t testing.TB) *Server {
	t.Helper()
	s, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// do asks the API without a network.
func (s *Server) do(method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+s.Token)
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, r)
	return w
}

func TestMetadata(t *testing.T) {
	s := testServer(t)
	w := s.do("POST", "/v2/droplets", `{"name":"web1","region":"nyc3","size":"s-1vcpu-1gb","image":"debian-12-x64","user_data":"#!/bin/sh\ntrue","tags":["a","b"],"ipv6":true}`)
	if w.Code != http.StatusAccepted {
		t.Fatal(w.Code, w.Body)
	}
	s.mu.Lock()
	d := s.sorted()[0]
	s.mu.Unlock()
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		s.metadata(d).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body.String()
	}
	for path, want := range map[string]string{
		"/metadata/v1/hostname":                         "web1",
		"/metadata/v1/region":                           "nyc3",
		"/metadata/v1/user-data":                        "#!/bin/sh\ntrue",
		"/metadata/v1/tags":                             "a\nb",
		"/metadata/v1/tags/1":                           "b",
		"/metadata/v1/interfaces/":                      "private/\npublic/",
		"/metadata/v1/interfaces/public/":               "0/",
		"/metadata/v1/interfaces/public/0/type":         "public",
		"/metadata/v1/interfaces/public/0/ipv4/address": d.Public.String(),
		"/metadata/v1/interfaces/private/0/mac":         mac(d.ID, 1),
		"/metadata/v1/dns/nameservers":                  "67.207.67.2\n67.207.67.3",
		"/metadata/v1/reserved-ip/ipv4/active":          "false",
	} {
		if code, got := get(path); code != http.StatusOK || got != want {
			t.Errorf("%s is %q (%d), want %q", path, got, code, want)
		}
	}
	for _, path := range []string{"/", "/metadata/v2.json", "/metadata/v1/nothing", "/metadata/v1/tags/2", "/metadata/v1/tags/-1", "/metadata/v1/hostname/0"} {
		if code, _ := get(path); code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
	}
	_, whole := get("/metadata/v1.json")
	var v struct {
		DropletID  int `json:"droplet_id"`
		Interfaces struct {
			Public []struct {
				IPv4 struct {
					Address netip.Addr `json:"ip_address"`
				} `json:"ipv4"`
				IPv6 struct{ Cidr int }
			}
		}
	}
	if err := json.Unmarshal([]byte(whole), &v); err != nil || v.DropletID != d.ID || v.Interfaces.Public[0].IPv4.Address != d.Public || v.Interfaces.Public[0].IPv6.Cidr != 64 {
		t.Errorf("got %+v, %v", v, err)
	}
}

// FuzzAPI looks for requests that make the simulator panic or fail within.
func FuzzAPI(f *testing.F) {
	for _, seed := range [][3]string{
		{"POST", "/v2/droplets", `{"name":"a","region":"nyc3","size":"s-1vcpu-1gb","image":"debian-12-x64","volumes":[{"id":1}]}`},
		{"GET", "/v2/droplets?page=2&per_page=200", ""},
		{"GET", "/v2/droplets?page=9223372036854775807&per_page=200", ""},
		{"POST", "/v2/firewalls", `{"name":"f","inbound_rules":[{"protocol":"tcp","ports":"1-2","sources":{"addresses":["::/0"]}}]}`},
		{"POST", "/v2/account/keys", `{"name":"k","public_key":"ssh-ed25519 AAAA"}`},
		{"POST", "/v2/vpcs", `{"name":"v","region":"nyc3","ip_range":"10.0.0.0/16"}`},
		{"POST", "/v2/projects/default/resources", `{"resources":["do:droplet:1"]}`},
		{"POST", "/v2/reserved_ips", `{"region":"nyc3"}`},
		{"POST", "/v2/volumes", `{"name":"v","region":"nyc3","size_gigabytes":1,"tags":["a"]}`},
		{"POST", "/v2/droplets/400000007/actions", `{"type":"resize","size":"c-2"}`},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	s := testServer(f)
	s.opt.PerMinute, s.opt.PerHour = 1<<30, 1<<30
	f.Fuzz(func(t *testing.T, method, path, body string) {
		if _, err := http.NewRequest(method, path, nil); err != nil || !strings.HasPrefix(path, "/v2/") || strings.ContainsAny(path, " \r\n") {
			t.Skip()
		}
		if w := s.do(method, path, body); w.Code >= 500 {
			t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
		s.mu.Lock()
		s.calls, s.limits = nil, map[string]*limiter{}
		s.mu.Unlock()
	})
}

// FuzzMetadata looks for paths that a droplet may ask for to our harm.
func FuzzMetadata(f *testing.F) {
	for _, seed := range []string{"/metadata/v1/", "/metadata/v1/interfaces/public/0/ipv4/address", "/metadata/v1/tags/99", "/metadata//v1", "/metadata/v1.json"} {
		f.Add(seed)
	}
	s := testServer(f)
	s.do("POST", "/v2/droplets", `{"name":"web1","region":"nyc3","size":"s-1vcpu-1gb","image":"debian-12-x64","tags":["a"]}`)
	d := s.sorted()[0]
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/") {
			t.Skip()
		}
		w := httptest.NewRecorder()
		s.metadata(d).ServeHTTP(w, &http.Request{Method: "GET", URL: &url.URL{Path: path}})
		if w.Code != http.StatusOK && w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	})
}

func TestPorts(t *testing.T) {
	for in, want := range map[string][2]int{"22": {22, 22}, "8000-9000": {8000, 9000}, "all": {0, 65535}, "0": {0, 65535}} {
		if a, b, ok := ports(in); !ok || a != want[0] || b != want[1] {
			t.Errorf("%s is %d-%d, %v", in, a, b, ok)
		}
	}
	for _, in := range []string{"-1", "22-", "90-80", "65536", "x", "1-2-3"} {
		if _, _, ok := ports(in); ok {
			t.Errorf("%s is taken for ports", in)
		}
	}
}
