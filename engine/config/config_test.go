package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDefaultSurvivesItsFile(t *testing.T) {
	c := Default()
	c.Labels = []string{"a=b"}
	c.LogOpts = map[string]string{"max-size": "10m", "max-file": "3"}
	data, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, _ := c.Marshal()
	if !bytes.Equal(data, again) {
		t.Error("equal configurations are not equal bytes")
	}
	file := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	got, keys, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, got); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(strings.Join(keys, " "), "hosts labels log-opts") {
		t.Errorf("keys: %v", keys)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"hosts":["unix:///a"],"colour":"red","shape":1}`: "don't match any configuration option: colour, shape",
		`{"debug":"yes"}`:              "invalid JSON",
		`{`:                            "invalid JSON",
		`[]`:                           "invalid JSON",
		`{"debug":true} more`:          "invalid JSON",
		`{"Debug":true}`:               "don't match any configuration option: Debug",
		strings.Repeat(" ", MaxSize+1): "longer than",
	} {
		if _, _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want %q", text, err, want)
		}
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	if _, _, err := Load(filepath.Join(t.TempDir(), "none.json")); !os.IsNotExist(unwrapAll(err)) || !strings.Contains(err.Error(), "none.json") {
		t.Errorf("got %v", err)
	}
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok || os.IsNotExist(err) {
			return err
		}
		err = u.Unwrap()
	}
}

func TestListeners(t *testing.T) {
	for host, want := range map[string]Listener{
		"unix:///run/a.sock":   {"unix", "/run/a.sock"},
		"unix://":              {"unix", Socket},
		"tcp://127.0.0.1:99":   {"tcp", "127.0.0.1:99"},
		"tcp://127.0.0.1":      {"tcp", "127.0.0.1:2375"},
		"tcp://:4000":          {"tcp", "127.0.0.1:4000"},
		"tcp://[::1]:5000/":    {"tcp", "[::1]:5000"},
		"tcp://localhost:2375": {"tcp", "localhost:2375"},
	} {
		got, err := Config{Hosts: []string{host}}.Listeners()
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %v, %v", host, got, err)
		}
		if !got[0].Loopback() {
			t.Errorf("%s is not local", host)
		}
	}
	got, err := Config{Hosts: []string{"tcp://0.0.0.0"}, TLSVerify: true}.Listeners()
	if err != nil || got[0].Port() != EnginePort || got[0].Loopback() {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestValidateRefuses(t *testing.T) {
	no := false
	for _, test := range []struct {
		config Config
		want   string
	}{
		{Config{Hosts: []string{"fd://"}}, "fd is not supported"},
		{Config{Hosts: []string{"docker.sock"}}, "must start with"},
		{Config{Hosts: []string{"unix://docker.sock"}}, "absolute"},
		{Config{Hosts: []string{"tcp://example.com:1"}}, "not an IP address"},
		{Config{Hosts: []string{"tcp://127.0.0.1:99999"}}, "not a port"},
		{Config{Hosts: []string{"tcp://127.0.0.1:1/path"}}, "ADDRESS:PORT"},
		{Config{Hosts: []string{"unix:///a", "unix:///a"}}, "twice"},
		{Config{Hosts: []string{"tcp://0.0.0.0:2375"}}, "requires tlsverify"},
		{Config{Hosts: []string{"tcp://0.0.0.0:2375"}, TLS: true}, "requires tlsverify"},
		{Config{LogLevel: "loud"}, "invalid logging level: loud"},
		{Config{LogDriver: "syslog"}, `log-driver "syslog"`},
		{Config{StorageDriver: "zfs"}, `storage-driver "zfs"`},
		{Config{Labels: []string{"a"}}, "key=value"},
		{Config{Labels: []string{"a=1", "a=2"}}, "conflict labels"},
		{Config{DNS: []string{"one"}}, "not an ip address"},
		{Config{BIP: "172.17.0.0/16"}, "bip"},
		{Config{BIP: "172.17.0.1/16", Bridge: "b"}, "mutually exclusive"},
		{Config{DefaultRuntime: "crun"}, `default-runtime "crun"`},
		{Config{Init: true}, "init is not supported"},
		{Config{LiveRestore: &no}, "live-restore"},
		{Config{ShutdownTimeout: -1}, "negative"},
		{Config{Features: map[string]bool{"containerd-snapshotter": false}}, "containerd-snapshotter"},
	} {
		if err := test.config.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: got %v, want %q", test.config, err, test.want)
		}
	}
	if err := (Config{}).WithDefaults().Validate(); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	data, _ := Default().Marshal()
	f.Add(data)
	f.Add([]byte(`{"hosts":["tcp://[::1]:2376"],"log-opts":{"a":"b"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := Parse(data)
		if err != nil {
			return
		}
		_ = c.WithDefaults().Validate()
		text, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Parse(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	})
}
