package machine

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/engine/config"
)

func TestEngineOptionsBecomeTheConfiguration(t *testing.T) {
	o := EngineOptions{
		Opts: []string{"log-driver=local", "--log-opt=max-size=10m", "dns=1.1.1.1", "dns=8.8.8.8", "icc", "bip=10.9.0.1/24", "iptables=false",
			"label=a=b", "feature=containerd-snapshotter=true", "shutdown-timeout=30", "debug", "g=/data", "init", "default-shm-size=1g",
			"default-ulimit=nofile=1:2", "default-ulimit=core=0", "default-stop-timeout=0", "default-address-pool=base=10.5.0.0/16,size=24",
			"host-gateway-ip=10.0.0.1", "mtu=1400"},
		InsecureRegistries: []string{"10.0.0.0/8"}, RegistryMirrors: []string{"https://mirror.example"},
		Labels: []string{"tier=front"}, StorageDriver: "overlay2", InstallURL: DefaultInstallURL,
	}
	raw, err := o.config("qemu")
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := config.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	off, on := false, true
	want := config.Default()
	want.LogDriver, want.LogOpts, want.DNS = "local", map[string]string{"max-size": "10m"}, []string{"1.1.1.1", "8.8.8.8"}
	want.BIP, want.IPTables, want.Labels = "10.9.0.1/24", &off, []string{"a=b", "tier=front", "provider=qemu"}
	want.Features, want.ShutdownTimeout = map[string]bool{"containerd-snapshotter": true}, 30
	want.Debug, want.DataRoot, want.StorageDriver = true, "/data", "overlay2"
	want.InsecureRegistries, want.RegistryMirrors = o.InsecureRegistries, o.RegistryMirrors
	want.ICC, want.Init, want.DefaultShmSize, want.DefaultStopTimeout, want.MTU = &on, true, 1<<30, new(int), 1400
	want.DefaultUlimits = config.Ulimits{"nofile": {Name: "nofile", Soft: 1, Hard: 2}, "core": {Name: "core"}}
	want.AddressPools = config.Pools{{Base: netip.MustParsePrefix("10.5.0.0/16"), Size: 24}}
	want.HostGatewayIPs = []string{"10.0.0.1"}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

// TestResumedOptionsAreThoseOfCreate: the same flags given again change nothing, whichever way a list was begun.
func TestResumedOptionsAreThoseOfCreate(t *testing.T) {
	o := EngineOptions{
		Opts:   []string{"label=a=b", "data-root=/data", "log-opt=max-size=10m", "log-opt=max-file=2", "registry-mirror=https://a.example"},
		Labels: []string{"tier=front"}, RegistryMirrors: []string{"https://b.example"}, StorageDriver: "native", Env: []string{"A=1"},
	}
	raw, err := o.config("qemu")
	if err != nil {
		t.Fatal(err)
	}
	old := settings{engine: raw, env: []byte(o.env())}
	next, err := old.change(SetOptions{Engine: o, StorageDriver: true}, "qemu")
	if err != nil || !next.equal(old) {
		t.Errorf("%v: %s\nbecomes %s", err, old.engine, next.engine)
	}
}

func TestEngineOptionsAreRefusedByName(t *testing.T) {
	for _, opt := range []string{"nosuch=1", "hosts=tcp://0.0.0.0:1", "host=x", "tlsverify=false", "dns", "dns=x", "debug=perhaps", "shutdown-timeout=x",
		"log-opt=x", "berth-tls-await=true", "iptables=2x", "proxies=x", "https-proxy=http://u:p@h", "default-shm-size", "default-ulimit=x", "init-path=/x", "", "="} {
		_, err := EngineOptions{Opts: []string{opt}}.config("qemu")
		if err == nil || !strings.Contains(err.Error(), strings.SplitN(opt, "=", 2)[0]) {
			t.Errorf("--engine-opt %q: %v", opt, err)
		}
	}
}

func FuzzEngineOption(f *testing.F) {
	f.Add("log-opt=max-size=10m")
	f.Add("feature=x")
	f.Fuzz(func(t *testing.T, opt string) {
		raw, err := EngineOptions{Opts: []string{opt}}.config("qemu")
		if err == nil {
			if _, _, err := config.Parse(raw); err != nil {
				t.Fatalf("%q makes a configuration that cannot be read: %v", opt, err)
			}
		}
	})
}

type flagsOnly struct{ drivers.Driver }

func (flagsOnly) Flags() []drivers.Flag {
	return []drivers.Flag{
		{Name: "x-text", Default: ""}, {Name: "x-count", Default: 2}, {Name: "x-on", Default: true},
		{Name: "x-many", Default: []string{"a"}}, {Name: "x-token", Default: "", Secret: true},
	}
}

func TestRecordedOptionsKeepTheirTypesAndNoSecrets(t *testing.T) {
	asked := drivers.Options{"x-text": "t", "x-count": 5, "x-on": false, "x-many": []string{"b", "c"}, "x-token": "s3cret"}
	raw, err := recordable(flagsOnly{}, asked)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "s3cret") {
		t.Errorf("the secret is recorded: %s", raw)
	}
	got, err := recorded(flagsOnly{}, raw)
	if err != nil {
		t.Fatal(err)
	}
	delete(asked, "x-token")
	if d := cmp.Diff(asked, got); d != "" {
		t.Error(d)
	}
	if _, err := recorded(flagsOnly{}, json.RawMessage(`{"x-count":"many"}`)); err == nil {
		t.Error("a wrong type passes")
	}
	all := withDefaults(flagsOnly{}, drivers.Options{"x-count": 7})
	if all.Int("x-count") != 7 || !all.Bool("x-on") || len(all.Strings("x-many")) != 1 {
		t.Errorf("defaults: %v", all)
	}
}

func elf(machine byte) []byte {
	head := make([]byte, 64)
	copy(head, "\x7fELF")
	head[18] = machine
	return head
}

func TestFindEngine(t *testing.T) {
	root := t.TempDir()
	write := func(path string, data []byte) string {
		t.Helper()
		path = filepath.Join(root, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	berth := write("bin/berth", nil)
	if _, err := FindEngine("amd64", berth, ""); err == nil || !strings.Contains(err.Error(), "there is none beside") {
		t.Errorf("nothing there: %v", err)
	}
	in := write("libexec/berth/berthd-linux-arm64", elf(elfARM64))
	beside := write("bin/berthd", elf(elfAMD64))
	for _, tt := range []struct{ arch, env, want string }{
		{"amd64", "", beside},
		{"arm64", "", in},
		{"arm64", in, in},
	} {
		got, err := FindEngine(tt.arch, berth, tt.env)
		if err != nil || !sameFile(got, tt.want) {
			t.Errorf("%s: %s, %v; want %s", tt.arch, got, err, tt.want)
		}
	}
	for _, tt := range []struct{ arch, env, want string }{
		{"arm64", beside, "is not for arm64"},
		{"amd64", berth, "no Linux program"},
		{"riscv64", "", "no engine for riscv64"},
	} {
		if _, err := FindEngine(tt.arch, berth, tt.env); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s: %v", tt.arch, tt.env, err)
		}
	}
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

func TestCertErrorsAreToldFromAnEngineThatStarts(t *testing.T) {
	for err, want := range map[error]bool{
		fmt.Errorf("get: %w", &tls.CertificateVerificationError{Err: errors.New("x")}):   true,
		fmt.Errorf("get: %w", &net.OpError{Op: "remote error", Err: tls.AlertError(42)}): true,
		fmt.Errorf("get: %w", &net.OpError{Op: "remote error", Err: tls.AlertError(80)}): false,
		http.ErrHandlerTimeout: false,
	} {
		if isCertError(err) != want {
			t.Errorf("%v: %t", err, !want)
		}
	}
}

func TestErrorsOfALongTextBecomeOneBoundedLine(t *testing.T) {
	got := oneLine(errors.New("a\n\tb " + strings.Repeat("x", 1000)))
	if !strings.HasPrefix(got, "a b x") || len(got) > 310 {
		t.Errorf("%d bytes: %.20q", len(got), got)
	}
}

func TestCheckErrorKeepsItsHintOnALineOfItsOwn(t *testing.T) {
	for text, want := range map[string]string{
		"no QEMU":                   `Error with pre-create check: "no QEMU"`,
		"no QEMU\nhint: install it": "Error with pre-create check: \"no QEMU\"\nhint: install it",
	} {
		if got := (&CheckError{Err: errors.New(text)}).Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
