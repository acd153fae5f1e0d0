//go:build linux

package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/getberth/berth/engine/config"
)

// configure returns the configuration that a command line gives.
func configure(t *testing.T, args ...string) (config.Config, error) {
	t.Helper()
	o := newServeFlags()
	cmd := newServe()
	cmd.ResetFlags()
	o.register(cmd.Flags())
	if err := cmd.ParseFlags(args); err != nil {
		return config.Config{}, err
	}
	return o.config(cmd)
}

func TestFlagsOfDockerd(t *testing.T) {
	no := false
	// As moby's test suites start an engine.
	got, err := configure(t, "--config-file", dockerFile, "--data-root", "/d", "--exec-root", "/e", "--pidfile", "/p", "--userland-proxy=false",
		"--containerd-namespace", "n", "--containerd-plugins-namespace", "np", "--containerd", "/run/c.sock", "--host", "unix:///s.sock",
		"-H", "tcp://127.0.0.1:1", "--debug", "--storage-driver", "overlay2", "--iptables=false", "--feature", "containerd-snapshotter=true",
		"--label", "a=b", "--log-opt", "max-size=1m", "--log-opt", "max-file=2", "--dns", "1.1.1.1", "--registry-mirror", "http://m",
		"--insecure-registry", "r:5000", "--experimental", "-G", "0", "--bip", "10.9.0.1/24",
		"--ip6tables=false", "--firewall-backend", "nftables", "--init", "--default-shm-size", "128m", "--default-ulimit", "nofile=5:6", "--icc=false",
		"--default-stop-timeout", "0", "--host-gateway-ip", "1.2.3.4", "--default-address-pool", "base=10.8.0.0/16,size=24", "--exec-opt",
		"native.cgroupdriver=cgroupfs", "--ipv6=false", "--cri-containerd=false", "--no-proxy", "here")
	if err != nil {
		t.Fatal(err)
	}
	want := config.Config{DataRoot: "/d", ExecRoot: "/e", PIDFile: "/p", UserlandProxy: &no, Hosts: []string{"unix:///s.sock", "tcp://127.0.0.1:1"},
		Debug: true, StorageDriver: "overlay2", IPTables: &no, Features: map[string]bool{"containerd-snapshotter": true},
		Labels: []string{"a=b"}, LogOpts: map[string]string{"max-size": "1m", "max-file": "2"}, DNS: []string{"1.1.1.1"},
		RegistryMirrors: []string{"http://m"}, InsecureRegistries: []string{"r:5000"}, Experimental: true, Group: "0", BIP: "10.9.0.1/24",
		IP6Tables: &no, Init: true, DefaultShmSize: 128 << 20, DefaultUlimits: config.Ulimits{"nofile": {Name: "nofile", Soft: 5, Hard: 6}}, ICC: &no,
		DefaultStopTimeout: new(int), HostGatewayIPs: []string{"1.2.3.4"}, AddressPools: config.Pools{{Base: netip.MustParsePrefix("10.8.0.0/16"), Size: 24}},
		Proxies: &config.Proxies{No: "here"},
	}.WithDefaults()
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestDefaults(t *testing.T) {
	got, err := configure(t, "--config-file", dockerFile)
	if err != nil {
		t.Fatal(err)
	}
	if got.DataRoot != config.DataRoot || !slices.Equal(got.Hosts, []string{"unix://" + config.Socket}) || got.PIDFile != "/run/berth/berthd.pid" {
		t.Errorf("got %+v", got)
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFileAndFlags(t *testing.T) {
	path := file(t, `{"debug":true,"labels":["a=b"],"berth-tls-await":true,"pidfile":"/p"}`)
	got, err := configure(t, "--config-file", path, "--data-root", "/d", "--tls-await", "--pidfile", "/p")
	if err != nil || !got.Debug || got.DataRoot != "/d" || got.LogLevel != "debug" || len(got.Labels) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err = configure(t, "--config-file", path, "--label", "c=d", "--debug=false")
	if err == nil || !strings.Contains(err.Error(), "debug: (from flag: false, from file: true), labels: (from flag: [c=d], from file: [a=b])") ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--userns-remap", "default"}, `userns-remap "default" is not supported`},
		{[]string{"--colour"}, "unknown flag: --colour"},
		{[]string{"--ipv6"}, `ipv6 "true" is not supported`},
		{[]string{"--firewall-backend", "iptables"}, "firewall-backend"},
		{[]string{"--default-ulimit", "nofile"}, "invalid ulimit argument: nofile"},
		{[]string{"--default-shm-size", "x"}, "invalid size: 'x'"},
		{[]string{"--default-address-pool", "base=10.0.0.0/8,size=4"}, "size 4"},
		{[]string{"--storage-driver", "zfs"}, `"zfs"`},
		{[]string{"-H", "fd://"}, "fd is not supported"},
		{[]string{"-H", "tcp://0.0.0.0:2375"}, "requires tlsverify"},
		{[]string{"--feature", "a=b"}, "feature"},
		{[]string{"--log-opt", "a"}, "log-opt"},
		{[]string{"--default-runtime", "crun"}, "crun"},
		{[]string{"--config-file", "/no/such/file"}, "/no/such/file"},
		{[]string{"--config-file", file(t, `{"colour":"red"}`)}, "colour"},
	} {
		if _, err := configure(t, test.args...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: got %v, want %q", test.args, err, test.want)
		}
	}
}

func TestValidate(t *testing.T) {
	var out bytes.Buffer
	root := newRoot()
	root.SetErr(&out)
	root.SetArgs([]string{"serve", "--validate", "--config-file", file(t, `{}`)})
	if err := root.Execute(); err != nil || out.String() != "configuration OK\n" {
		t.Errorf("%q, %v", &out, err)
	}
}

func TestNameOfDockerd(t *testing.T) {
	if got := arguments([]string{"/usr/bin/dockerd", "-D"}); !slices.Equal(got, []string{"serve", "--config-file", dockerFile, "-D"}) {
		t.Errorf("got %q", got)
	}
	if got := arguments([]string{"/usr/bin/berthd", "version"}); !slices.Equal(got, []string{"version"}) {
		t.Errorf("got %q", got)
	}
}
