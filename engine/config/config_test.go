package config

import (
	"bytes"
	"net/netip"
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

// TestKeysOfDockerd are those that dockerd has and this engine has not.
func TestKeysOfDockerd(t *testing.T) {
	for text, want := range map[string]string{
		`{"userns-remap":"default"}`:                           `userns-remap "default" is not supported: containers have the host's user ids`,
		`{"runtimes":{"crun":{"path":"/crun"}}}`:               "runtimes",
		`{"exec-opts":["native.cgroupdriver=systemd"]}`:        `exec-opts "native.cgroupdriver=systemd" is not supported`,
		`{"ip-forward":false}`:                                 `ip-forward "false" is not supported`,
		`{"metrics-addr":"127.0.0.1:1","colour":1}`:            "colour",
		`{"host-gateway-ip":"::1","host-gateway-ips":["::2"]}`: "must not both be specified",
		`{"default-shm-size":"big"}`:                           "invalid size: 'big'",
	} {
		if _, _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
	neutral := `{"userns-remap":"","runtimes":{},"exec-opts":["native.cgroupdriver=cgroupfs"],"ip-forward":true,"ipv6":false,"cdi-spec-dirs":[],
		"containerd":"/run/c.sock","network-control-plane-mtu":1400,"node-generic-resources":null,"cpu-rt-period":0,"raw-logs":true}`
	if c, keys, err := Parse([]byte(neutral)); err != nil || len(keys) != 0 || !cmp.Equal(c, Config{}) {
		t.Errorf("got %+v, %v, %v", c, keys, err)
	}
}

func TestParseValues(t *testing.T) {
	got, _, err := Parse([]byte("\xef\xbb\xbf" + `{"default-shm-size":"64M","default-ulimits":{"nofile":{"Name":"nofile","Hard":20,"Soft":10}},"icc":false,
		"default-address-pools":[{"base":"10.9.0.0/16","size":24}],"host-gateway-ip":"10.0.0.1","proxies":{"https-proxy":"http://p:1"}}`))
	if err != nil {
		t.Fatal(err)
	}
	no := false
	want := Config{DefaultShmSize: 64 << 20, DefaultUlimits: Ulimits{"nofile": {Name: "nofile", Soft: 10, Hard: 20}}, ICC: &no,
		AddressPools: Pools{{netip.MustParsePrefix("10.9.0.0/16"), 24}}, HostGatewayIPs: []string{"10.0.0.1"}, Proxies: &Proxies{HTTPS: "http://p:1"}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if err := got.WithDefaults().Validate(); err != nil {
		t.Error(err)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Bytes{"0": 0, "12": 12, "1k": 1024, "64M": 64 << 20, "1.5gb": 3 << 29, "2GiB": 2 << 30, "1 t": 1 << 40} {
		var got Bytes
		if err := got.Set(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "m", "-1", "1x", "1mm", "1e400", "99999999t", "NaN"} {
		var got Bytes
		if err := got.Set(text); err == nil {
			t.Errorf("%q is taken as %d", text, got)
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
	minus := -1
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
		{Config{LogDriver: "gelf"}, `log-driver "gelf"`},
		{Config{LogFormat: "xml"}, "invalid log format: xml"},
		{Config{MaxDownloadAttempts: -1}, "max-download-attempts -1 is negative"},
		{Config{MTU: 5}, "mtu 5"},
		{Config{DefaultStopTimeout: &minus}, "default-stop-timeout -1"},
		{Config{DefaultIPCMode: "host"}, `IPC mode "host" is not supported as default value`},
		{Config{DefaultCgroupnsMode: "x"}, "invalid default cgroup namespace (x)"},
		{Config{SeccompProfile: "a.json"}, "seccomp-profile"},
		{Config{HostGatewayIPs: []string{"1.2.3.4", "1.2.3.5"}}, "only one IPv4"},
		{Config{HostGatewayIPs: []string{"here"}}, "here is not an ip address"},
		{Config{IP: "::1"}, "not an IPv4 address"},
		{Config{BIP: "10.1.0.1/16", FixedCIDR: "10.2.0.0/24"}, "part of bip's subnet"},
		{Config{FixedCIDR: "10.2.0.0/24"}, "part of bip's subnet"},
		{Config{DefaultUlimits: Ulimits{"nofile": {Soft: 2, Hard: 1}}}, "soft limit must be less than"},
		{Config{DefaultUlimits: Ulimits{"colour": {}}}, "invalid ulimit type: colour"},
		{Config{AddressPools: Pools{{Base: netip.MustParsePrefix("10.0.0.0/8"), Size: 7}}}, "size 7"},
		{Config{AddressPools: Pools{{}}}, "no base"},
		{Config{StorageDriver: "zfs"}, `storage-driver "zfs"`},
		{Config{Labels: []string{"a"}}, "key=value"},
		{Config{Labels: []string{"a=1", "a=2"}}, "conflict labels"},
		{Config{DNS: []string{"one"}}, "not an ip address"},
		{Config{BIP: "172.17.0.0/16"}, "bip"},
		{Config{BIP: "172.17.0.1/16", Bridge: "b"}, "mutually exclusive"},
		{Config{DefaultRuntime: "crun"}, `default-runtime "crun"`},
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

func FuzzSizes(f *testing.F) {
	f.Add("64m", "nofile=1:2", "base=10.0.0.0/8,size=24")
	f.Fuzz(func(t *testing.T, size, limit, pool string) {
		var b, again Bytes
		if b.Set(size) == nil && (b < 0 || again.Set(b.String()) != nil || again != b) {
			t.Errorf("%q is %d, which is read as %d", size, b, again)
		}
		var u Ulimits
		_ = u.Set(limit)
		_ = u.check()
		var p Pools
		_ = p.Set(pool)
		_ = p.check()
	})
}

func FuzzParse(f *testing.F) {
	data, _ := Default().Marshal()
	f.Add(data)
	f.Add([]byte(`{"default-shm-size":"1.5g","default-ulimits":{"core":{"Soft":-1,"Hard":-1}},"default-address-pools":[{"base":"10.0.0.0/8","size":24}]}`))
	f.Add([]byte(`{"runtimes":{"a":{}},"exec-opts":["a=b"],"proxies":{"no-proxy":"*"},"ipv6":true,"host-gateway-ip":"::1"}`))
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
