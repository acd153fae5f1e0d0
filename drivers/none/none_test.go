package none

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/getberth/berth/drivers"
)

func TestURLs(t *testing.T) {
	for text, want := range map[string]string{
		"tcp://10.0.0.1:2376":      "tcp://10.0.0.1:2376",
		"tcp://engine.example":     "tcp://engine.example:2376",
		"tcp://[fd00::1]:99/":      "tcp://[fd00::1]:99",
		"":                         "--url option is required",
		"unix:///run/docker.sock":  "only engines at tcp://HOST:PORT",
		"10.0.0.1:2376":            "--url",
		"tcp://:2376":              "only engines at tcp://HOST:PORT",
		"tcp://h:0":                "not a port",
		"tcp://h:70000":            "not a port",
		"tcp://user:pass@h:2376":   "and no more",
		"tcp://h:2376/path?x=1":    "and no more",
		"ssh://h":                  "only engines at tcp://HOST:PORT",
		"tcp://h:2376\x00":         "--url",
		"tcp://h:2376#" + "\x1b[m": "--url",
	} {
		s, err := parse(text)
		got := s.URL
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestLife(t *testing.T) {
	d, h := New(), &drivers.Host{Name: "a"}
	h.Save = func(s json.RawMessage) error { h.State = s; return nil }
	if st, err := d.State(t.Context(), h); st != drivers.NotFound || err != nil {
		t.Errorf("before: %q, %v", st, err)
	}
	if err := d.Create(t.Context(), h, drivers.Options{"url": "tcp://10.0.0.1:2376"}); err != nil {
		t.Fatal(err)
	}
	if e, err := d.Endpoint(h); err != nil || e.Address != "10.0.0.1" || e.EnginePort != 2376 || e.SSHHost != "" {
		t.Errorf("endpoint %+v, %v", e, err)
	}
	if st, err := d.State(t.Context(), h); st != drivers.Running || err != nil {
		t.Errorf("after: %q, %v", st, err)
	}
	for verb, err := range map[string]error{
		"started": d.Start(t.Context(), h), "stopped": d.Stop(t.Context(), h), "killed": d.Kill(t.Context(), h), "restarted": d.Restart(t.Context(), h),
	} {
		if err == nil || err.Error() != "hosts without a driver cannot be "+verb {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if err := d.Remove(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if st, err := d.State(t.Context(), h); st != drivers.NotFound || err != nil {
		t.Errorf("at the end: %q, %v", st, err)
	}
}

func TestRecordsWithoutVersionAreRead(t *testing.T) {
	h := &drivers.Host{Name: "a", State: json.RawMessage(`{"url":"tcp://10.0.0.1:2376","host":"10.0.0.1","port":2376}`)}
	if e, err := New().Endpoint(h); err != nil || e.Address != "10.0.0.1" {
		t.Errorf("endpoint %+v, %v", e, err)
	}
	h.State = json.RawMessage(`{"version":2,"url":"tcp://10.0.0.1:2376"}`)
	if st, err := New().State(t.Context(), h); st != drivers.Error || err == nil || !strings.Contains(err.Error(), "newer berth") {
		t.Errorf("a newer berth's record: %q, %v", st, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("tcp://h:1")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parse(text)
		if err == nil && (s.Host == "" || s.Port < 1 || s.Port > 65535) {
			t.Errorf("%q: %+v", text, s)
		}
	})
}
