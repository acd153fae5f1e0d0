package generic_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/driverstest"
	"github.com/getberth/berth/drivers/generic"
	"github.com/getberth/berth/guest/sshd"
	"github.com/getberth/berth/sshutil"
)

// host is a real SSH server on the loopback.
type host struct {
	port    int
	hostKey string // public
	keyFile string // private key that may log in
}

func newHost(t *testing.T) *host {
	t.Helper()
	server, user := newKey(t), newKey(t)
	srv, err := sshd.New(sshd.Config{HostKey: server.Private, AuthorizedKeys: []string{user.Public}, Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-done })
	h := &host{port: ln.Addr().(*net.TCPAddr).Port, hostKey: server.Public, keyFile: filepath.Join(t.TempDir(), "id")}
	if err := os.WriteFile(h.keyFile, user.Private, 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

func newKey(t *testing.T) sshutil.Key {
	t.Helper()
	k, err := sshutil.NewKey("test")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// options are those that reach the host, with further ones as pairs of name and value.
func (h *host) options(more ...any) drivers.Options {
	o := drivers.Options{}
	for _, f := range generic.New(generic.Config{}).Flags() {
		o[f.Name] = f.Default
	}
	o["generic-ip-address"], o["generic-ssh-port"], o["generic-ssh-key"] = "127.0.0.1", h.port, h.keyFile
	for i := 0; i < len(more); i += 2 {
		o[more[i].(string)] = more[i+1]
	}
	return o
}

func TestConformance(t *testing.T) {
	h := newHost(t)
	driverstest.Run(t, func() drivers.Driver { return generic.New(generic.Config{}) },
		driverstest.Unpowered(), driverstest.Unprefixed("accept-new-host-key"),
		driverstest.With("generic-ip-address", "127.0.0.1"), driverstest.With("generic-ssh-port", h.port),
		driverstest.With("generic-ssh-key", h.keyFile), driverstest.With("generic-host-key", h.hostKey),
		driverstest.Refuses("no address", "generic-ip-address", ""),
		driverstest.Refuses("not an address", "generic-ip-address", "-oProxyCommand=x"),
		driverstest.Refuses("a port too many", "generic-ip-address", "host:22"),
		driverstest.Refuses("port out of range", "generic-ssh-port", 70000),
		driverstest.Refuses("port out of range", "generic-engine-port", 0),
		driverstest.Refuses("SSH's own port", "generic-engine-port", h.port),
		driverstest.Refuses("no such key", "generic-ssh-key", "/nonexistent"),
		driverstest.Refuses("no key", "generic-ssh-key", "/etc/passwd"),
		driverstest.Refuses("no key", "generic-host-key", "ssh-ed25519 nonsense"),
		driverstest.Refuses("another host's", "generic-host-key", "SHA256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
		driverstest.Refuses("no host", "generic-jump", "user@"),
		driverstest.Refuses("a key for nobody", "generic-jump-host-key", h.hostKey),
		driverstest.Reach(func(t *testing.T, e drivers.Endpoint, dh *drivers.Host) {
			c, err := sshutil.Dial(t.Context(), sshutil.Endpoint{Host: e.SSHHost, Port: e.SSHPort, User: e.SSHUser,
				HostKeys: append(e.HostKeys, e.HostKey), KeyPaths: []string{filepath.Join(dh.Dir, e.KeyFile)}})
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}))
}

// look is a Host of which nothing can be saved; it collects what the driver tells.
func look(t *testing.T) (*drivers.Host, *strings.Builder) {
	told := new(strings.Builder)
	return &drivers.Host{Name: "a", Dir: t.TempDir(), Out: told,
		Log:  func(format string, args ...any) { fmt.Fprintf(told, format+"\n", args...) },
		Save: func(json.RawMessage) error { return errors.New("nothing may be saved") }}, told
}

func fingerprint(t *testing.T, key string) string {
	t.Helper()
	f, err := sshutil.Fingerprint(key)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestUnknownHostKeyIsRefused(t *testing.T) {
	h := newHost(t)
	dh, _ := look(t)
	err := generic.New(generic.Config{}).Check(t.Context(), dh, h.options())
	var advised *drivers.AdvisedError
	if !errors.As(err, &advised) || !strings.Contains(err.Error(), fingerprint(t, h.hostKey)) {
		t.Fatalf("got %v", err)
	}
	key := strings.Join(strings.Fields(h.hostKey)[:2], " ")
	for _, want := range []string{"{again} --generic-host-key '" + key + "'", "{again} --accept-new-host-key", "ssh_host_ed25519_key.pub"} {
		if !strings.Contains(advised.Advice, want) {
			t.Errorf("the advice lacks %q:\n%s", want, advised.Advice)
		}
	}
}

func TestHostKeyIsPinned(t *testing.T) {
	h := newHost(t)
	pub := filepath.Join(t.TempDir(), "host.pub")
	known := filepath.Join(t.TempDir(), "known_hosts")
	key := strings.Join(strings.Fields(h.hostKey)[:2], " ")
	for path, line := range map[string]string{pub: h.hostKey, known: fmt.Sprintf("[127.0.0.1]:%d %s", h.port, key)} {
		if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		config  generic.Config
		options []any
		told    string
	}{
		"the key":         {options: []any{"generic-host-key", h.hostKey}},
		"its file":        {options: []any{"generic-host-key", pub}},
		"its fingerprint": {options: []any{"generic-host-key", strings.Fields(fingerprint(t, h.hostKey))[1]}},
		"known hosts":     {config: generic.Config{KnownHosts: []string{known}}, told: "is the one that ssh knows: " + fingerprint(t, h.hostKey)},
		"as it comes":     {options: []any{"accept-new-host-key", true}, told: "is trusted from now on: " + fingerprint(t, h.hostKey)},
	} {
		t.Run(name, func(t *testing.T) {
			dh, told := look(t)
			e, err := generic.New(tt.config).Preview(t.Context(), dh, h.options(tt.options...))
			if err != nil || e.HostKey != key || e.KeyFile != h.keyFile {
				t.Fatalf("got %+v, %v", e, err)
			}
			if !strings.Contains(told.String(), tt.told) || tt.told == "" && told.Len() > 0 {
				t.Errorf("told %q, want %q", told, tt.told)
			}
		})
	}
}

// TestKnownHostShowsAnotherKey: a key that ssh knows is not given up because the user would take a new one.
func TestKnownHostShowsAnotherKey(t *testing.T) {
	h := newHost(t)
	known := filepath.Join(t.TempDir(), "known_hosts")
	other := strings.Join(strings.Fields(newKey(t).Public)[:2], " ")
	if err := os.WriteFile(known, fmt.Appendf(nil, "[127.0.0.1]:%d %s\n", h.port, other), 0o600); err != nil {
		t.Fatal(err)
	}
	dh, _ := look(t)
	e, err := generic.New(generic.Config{KnownHosts: []string{known}}).Preview(t.Context(), dh, h.options("accept-new-host-key", true))
	if err != nil || e.HostKey != other {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestJumpHost(t *testing.T) {
	h, jump := newHost(t), newHost(t)
	dh, _ := look(t)
	spec := fmt.Sprintf("127.0.0.1:%d", jump.port)
	err := generic.New(generic.Config{}).Check(t.Context(), dh, h.options("generic-jump", spec))
	var advised *drivers.AdvisedError
	if !errors.As(err, &advised) || !strings.Contains(advised.Advice, "--generic-jump-host-key 'ssh-ed25519 ") {
		t.Errorf("an unknown jump host: %v", err)
	}
	// The jump host's keys are not the host's: it lets nobody in with them, so that nothing of the host is known.
	err = generic.New(generic.Config{}).Check(t.Context(), dh, h.options("generic-jump", spec, "generic-jump-host-key", jump.hostKey))
	if !errors.Is(err, sshutil.AuthFailed) || !strings.Contains(err.Error(), "the jump host "+spec) {
		t.Errorf("a jump host that refuses us: %v", err)
	}
	both := h.options("generic-jump", "root@"+spec, "generic-jump-host-key", jump.hostKey, "generic-ssh-key", jump.keyFile)
	err = generic.New(generic.Config{}).Check(t.Context(), dh, both)
	if !errors.As(err, &advised) || !strings.Contains(err.Error(), fingerprint(t, h.hostKey)) {
		t.Errorf("an unknown host behind a jump host: %v", err)
	}
	both["generic-host-key"] = h.hostKey
	e, err := generic.New(generic.Config{}).Preview(t.Context(), dh, both)
	if err != nil || e.Jump == nil || e.Jump.User != "root" || e.Jump.Port != jump.port || len(e.Jump.HostKeys) != 1 {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestRecordsWithoutVersionAreRead(t *testing.T) {
	h := &drivers.Host{Name: "a", State: json.RawMessage(`{"address":"10.0.0.1","sshUser":"root","sshPort":22,"enginePort":2376,"hostKeys":["k"]}`)}
	if e, err := generic.New(generic.Config{}).Endpoint(h); err != nil || e.Address != "10.0.0.1" || e.HostKey != "k" {
		t.Errorf("endpoint %+v, %v", e, err)
	}
}

func TestPower(t *testing.T) {
	d, dh := generic.New(generic.Config{}), &drivers.Host{}
	for verb, err := range map[string]error{"start": d.Start(t.Context(), dh), "stop": d.Stop(t.Context(), dh), "kill": d.Kill(t.Context(), dh)} {
		if err == nil || err.Error() != "generic driver does not support "+verb {
			t.Errorf("%s: %v", verb, err)
		}
	}
}
