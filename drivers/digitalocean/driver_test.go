package digitalocean_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crypto/ed25519"

	"golang.org/x/crypto/ssh"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/digitalocean"
	"github.com/getberth/berth/drivers/digitalocean/fakeapi"
	"github.com/getberth/berth/drivers/driverstest"
)

const (
	token   = "dop_v1_0123456789abcdef"
	storeID = "00000000000000aa"
)

var quick = digitalocean.Config{
	Poll: time.Millisecond, Backoff: time.Millisecond, Settle: 50 * time.Millisecond, Try: 20 * time.Second, StopTimeout: 20 * time.Millisecond,
	BootTimeout: 10 * time.Second, ActionTimeout: 10 * time.Second, PerSecond: 10000,
}

// rig is an account and a driver for it.
type rig struct {
	api *fakeapi.Server
	url string
	d   *digitalocean.Driver
}

func newRig(t *testing.T) *rig {
	t.Helper()
	api := &fakeapi.Server{Token: token, Looks: 2}
	srv := httptest.NewServer(api)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		for _, p := range api.Problems() {
			t.Errorf("a request that the API refuses: %s", p)
		}
	})
	return &rig{api: api, url: srv.URL, d: digitalocean.New(quick)}
}

// options are the defaults with some changed: "region", "ams3".
func (r *rig) options(changes ...any) drivers.Options {
	o := drivers.Options{}
	for _, f := range r.d.Flags() {
		o[f.Name] = f.Default
	}
	o["digitalocean-api-url"] = r.url
	for i := 0; i < len(changes); i += 2 {
		o["digitalocean-"+changes[i].(string)] = changes[i+1]
	}
	return o
}

// box is one machine's record.
type box struct {
	*drivers.Host
	mu     sync.Mutex // guards the rest
	log    bytes.Buffer
	debug  bytes.Buffer
	onSave func() error
}

func (b *box) said() string { b.mu.Lock(); defer b.mu.Unlock(); return b.log.String() }

func newBox(t *testing.T, name string) *box {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		t.Fatal(err)
	}
	p, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p)))
	b := new(box)
	b.Host = &drivers.Host{Name: name, Dir: t.TempDir(), Out: io.Discard, Keys: drivers.Keys{
		HostPrivate: pem.EncodeToMemory(block), HostPublic: line, ClientPublic: line + " berth " + name,
	}}
	b.Log = func(format string, args ...any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		fmt.Fprintf(&b.log, format+"\n", args...)
	}
	b.Save = func(s json.RawMessage) error {
		b.State = bytes.Clone(s)
		if b.onSave != nil {
			return b.onSave()
		}
		return nil
	}
	b.StoreID = func() (string, error) { return storeID, nil }
	b.Secret = func(context.Context, string) (string, error) { return token, nil }
	return b
}

func (r *rig) wantLeft(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, l := range r.api.Left() {
		kind, name, _ := strings.Cut(l, " ")
		if kind == "droplet" {
			kind += " " + name
		}
		got = append(got, kind)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the account has %v; want %v", r.api.Left(), want)
	}
}

func TestConformance(t *testing.T) {
	r := newRig(t)
	new := func() drivers.Driver { return digitalocean.New(quick) }
	driverstest.Run(t, new,
		driverstest.With("digitalocean-api-url", r.url),
		driverstest.SecretFlag("digitalocean-access-token", token),
		driverstest.Made(func(*drivers.Host) bool { return len(r.api.Left()) > 0 }),
		driverstest.Reach(func(t *testing.T, e drivers.Endpoint, h *drivers.Host) {
			d := r.api.Droplets()
			if len(d) != 1 || d[0].Status != "active" || d[0].Networks.V4[1].IPAddress != e.Address || e.HostKey != h.Keys.HostPublic {
				t.Errorf("%+v is not where %+v is", e, d)
			}
			if !slices.Contains(e.SANs, d[0].Networks.V4[0].IPAddress) {
				t.Errorf("the private address is not in %v", e.SANs)
			}
		}),
		driverstest.Refuses("no such region", "digitalocean-region", "nyc9"),
		driverstest.Refuses("it takes no droplets", "digitalocean-region", "nyc1"),
		driverstest.Refuses("no such size", "digitalocean-size", "s-1vcpu-1tb"),
		driverstest.Refuses("no such image", "digitalocean-image", "debian-13"),
		driverstest.Refuses("an image that needs a larger disk", "digitalocean-image", "104"),
		driverstest.Refuses("no key", "digitalocean-ssh-key-fingerprint", "aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99"),
		driverstest.Refuses("no fingerprint", "digitalocean-ssh-key-fingerprint", "aa:bb"),
		driverstest.Refuses("no such file", "digitalocean-userdata", "/nonexistent"),
		driverstest.Refuses("a VPC elsewhere", "digitalocean-vpc", "far"),
		driverstest.Refuses("no VPC", "digitalocean-vpc", "offce"),
		driverstest.Refuses("no project", "digitalocean-project", "shp"),
		driverstest.Refuses("no volume", "digitalocean-volume", []string{"data"}),
		driverstest.Refuses("no address of the account", "digitalocean-reserved-ip", "203.0.113.9"),
		driverstest.Refuses("a bad network", "digitalocean-allow-from", "10.0.0.0/40"),
		driverstest.Refuses("no such way", "digitalocean-expose", "all"),
		driverstest.Refuses("a bad plan", "digitalocean-backup-policy", "weekly@4"),
		driverstest.Refuses("a bad tag", "digitalocean-tags", "a b"),
		driverstest.Refuses("a token in the clear", "digitalocean-api-url", "http://192.0.2.1/"),
		driverstest.Refuses("no port", "digitalocean-ssh-port", 0),
		driverstest.Refuses("no user", "digitalocean-ssh-user", "root; reboot"),
	)
	r.wantLeft(t)
}

func TestCheckNamesWhatIsLikeIt(t *testing.T) {
	r := newRig(t)
	r.api.AddKey(keyOf(t, "laptop"))
	for _, tt := range []struct {
		flag, value, want string
	}{
		{"region", "nyc", "the nearest are nyc3, ams3"},
		{"size", "s-1vcpu-2g", "the nearest are s-1vcpu-2gb,"},
		{"image", "debian-12", "the nearest are debian-12-x64,"},
		{"vpc", "ofice", "the nearest are office"},
		{"project", "shap", "the nearest are shop"},
		{"ssh-key-fingerprint", "aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99", "(laptop)"},
	} {
		err := r.d.Check(t.Context(), newBox(t, "web1").Host, r.options(tt.flag, tt.value))
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "--digitalocean-"+tt.flag) {
			t.Errorf("%s %s: %v; want %q", tt.flag, tt.value, err, tt.want)
		}
	}
	err := r.d.Check(t.Context(), newBox(t, "web1").Host, r.options("region", "ams3", "size", "s-2vcpu-4gb"))
	if err == nil || !strings.Contains(err.Error(), "there are some in nyc3") {
		t.Errorf("a size that is elsewhere: %v", err)
	}
}

func TestCheckOfTheAccount(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(*rig, *box)
		want  string
	}{
		"a wrong token":      {func(_ *rig, b *box) { b.Secret = func(context.Context, string) (string, error) { return "wrong", nil } }, "does not accept the token"},
		"no token":           {func(_ *rig, b *box) { b.Secret = func(context.Context, string) (string, error) { return "", nil } }, "DIGITALOCEAN_ACCESS_TOKEN"},
		"a token of 2 lines": {func(_ *rig, b *box) { b.Secret = func(context.Context, string) (string, error) { return "a\nb", nil } }, "--digitalocean-access-token"},
		"no scope to delete": {func(r *rig, _ *box) { r.api.Forbid = []string{"DELETE /v2/droplets", "GET /v2/firewalls"} }, "lacks a scope: droplet:delete, firewall:read"},
		"a read-only token":  {func(r *rig, _ *box) { r.api.ReadOnly = true }, "lacks a scope"},
		"no room":            {func(r *rig, _ *box) { r.api.DropletLimit = 1; mustCreate(t, r, newBox(t, "web0"), r.options()) }, "this would be number 2"},
		"no API": {func(r *rig, _ *box) {
			r.api.Inject("GET /v2/account", slices.Repeat([]fakeapi.Fault{{Status: 503, Message: "down"}}, 9)...)
		}, "503: down"},
	} {
		t.Run(name, func(t *testing.T) {
			r, b := newRig(t), newBox(t, "web1")
			tt.spoil(r, b)
			r.d = digitalocean.New(quick) // which has not asked for the account yet
			before := r.api.Left()
			err := r.d.Check(t.Context(), b.Host, r.options())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), token) {
				t.Error("the error has the token in it")
			}
			if !slices.Equal(before, r.api.Left()) {
				t.Errorf("Check has made something: %v", r.api.Left())
			}
		})
	}
}

func mustCreate(t *testing.T, r *rig, b *box, o drivers.Options) {
	t.Helper()
	if err := r.d.Create(t.Context(), b.Host, o); err != nil {
		t.Fatalf("Create: %v", err)
	}
}

func mustRemove(t *testing.T, r *rig, b *box) {
	t.Helper()
	if err := r.d.Remove(t.Context(), b.Host); err != nil {
		t.Fatalf("Remove: %v", err)
	}
}

// TestFaults: whatever becomes of one request of a create, there is one droplet in the end, perhaps after a second create, and none
// of anything after the removal.
func TestFaults(t *testing.T) {
	requests := []string{"POST /v2/tags", "POST /v2/account/keys", "POST /v2/firewalls", "POST /v2/volumes", "POST /v2/droplets", "POST /v2/reserved_ips", "POST /v2/projects", "GET /v2/droplets", "GET /v2/reserved_ips"}
	faults := map[string]fakeapi.Fault{
		"answer lost":              {Lost: true, Done: true},
		"connection lost":          {Lost: true},
		"done, but 502":            {Status: 502, Done: true},
		"502":                      {Status: 502},
		"429":                      {Status: 429, RetryAfter: "0"},
		"500 and it turns up":      {Status: 500, Done: true, Late: 20 * time.Millisecond},
		"lost and far too late":    {Lost: true, Done: true, Late: 200 * time.Millisecond},
		"no answer in time":        {Hang: true, Done: true},
		"nothing, for a long time": {Hang: true},
		"503 with a long message":  {Status: 503, Message: strings.Repeat("\x1b[2J", 10000)},
	}
	for name, f := range faults {
		for _, request := range requests {
			t.Run(name+" "+request, func(t *testing.T) {
				t.Parallel()
				r, b := newRig(t), newBox(t, "web1")
				if f.Hang {
					conf := quick
					conf.Try = 300 * time.Millisecond
					r.d = digitalocean.New(conf)
				}
				r.api.Inject(request, f)
				o := r.options("volume", []string{"new:1"}, "reserved-ip", "new", "project", "shop")
				if err := r.d.Create(t.Context(), b.Host, o); err != nil {
					if strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 1000 {
						t.Errorf("an error not fit for a terminal: %q", err)
					}
					r.d = digitalocean.New(quick)
					time.Sleep(f.Late) // the API's doing, not ours
					mustCreate(t, r, b, o)
				}
				r.wantLeft(t, "droplet web1", "firewall", "key", "reserved", "tag", "volume")
				r.d = digitalocean.New(quick)
				mustRemove(t, r, b)
				r.wantLeft(t)
			})
		}
	}
}

// TestRemoveAfterLostAnswer: a droplet that turns up while its machine is being removed is removed.
func TestRemoveAfterLostAnswer(t *testing.T) {
	r, b := newRig(t), newBox(t, "web1")
	conf := quick
	conf.Settle = 20 * time.Second // it ends as soon as the droplet turns up
	r.d = digitalocean.New(conf)
	r.api.Inject("POST /v2/droplets", fakeapi.Fault{Hang: true, Done: true, Late: 30 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	r.api.After = func(method, path string) {
		if method+path == "POST/v2/droplets" {
			cancel()
		}
	}
	if err := r.d.Create(ctx, b.Host, r.options()); !errors.Is(err, context.Canceled) {
		t.Errorf("Create: %v", err)
	}
	mustRemove(t, r, b)
	r.wantLeft(t)
}

func TestNoPOSTIsRepeated(t *testing.T) {
	r, b := newRig(t), newBox(t, "web1")
	r.api.Inject("POST /v2/droplets", fakeapi.Fault{Status: 502})
	if err := r.d.Create(t.Context(), b.Host, r.options()); err == nil || !strings.Contains(err.Error(), "has not turned up") {
		t.Errorf("Create: %v", err)
	}
	n := 0
	for _, q := range r.api.Requests() {
		if q.Method == "POST" && q.Path == "/v2/droplets" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the droplet was asked for %d times", n)
	}
	mustRemove(t, r, b)
	r.wantLeft(t)
}

func TestRetryAfterIsObeyed(t *testing.T) {
	r, b := newRig(t), newBox(t, "web1")
	r.api.Inject("GET /v2/account", fakeapi.Fault{Status: 429, RetryAfter: "1"})
	if err := r.d.Check(t.Context(), b.Host, r.options()); err != nil {
		t.Fatal(err)
	}
	q := r.api.Requests()
	if gap := q[1].At.Sub(q[0].At); gap < 900*time.Millisecond {
		t.Errorf("asked again after %s", gap)
	}
}

func TestTokenIsNowhere(t *testing.T) {
	r, b := newRig(t), newBox(t, "web1")
	var debug bytes.Buffer
	b.Out = &debug
	r.api.Inject("GET /v2/droplets", fakeapi.Fault{Lost: true}, fakeapi.Fault{Status: 500})
	mustCreate(t, r, b, r.options())
	mustRemove(t, r, b)
	for what, text := range map[string]string{"debug output": debug.String(), "log": b.said(), "state": string(b.State)} {
		if strings.Contains(text, token) || strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("the %s has a secret in it", what)
		}
	}
	if !strings.Contains(debug.String(), "POST "+r.url+"/v2/droplets") {
		t.Errorf("the debug output lacks the requests: %s", debug.String())
	}
}

func TestStubbornDroplet(t *testing.T) {
	r, b := newRig(t), newBox(t, "web1")
	r.api.StubbornShutdown = true
	mustCreate(t, r, b, r.options())
	if err := r.d.Stop(t.Context(), b.Host); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.said(), "its power is cut") {
		t.Errorf("nothing is said: %q", b.said())
	}
	mustRemove(t, r, b)
}

func TestWhatWasThereStays(t *testing.T) {
	r, b := newRig(t), newBox(t, "web1")
	k := keyOf(t, "laptop")
	r.api.AddKey(k)
	r.api.AddVolume("data")
	r.api.AddReserved("203.0.113.7")
	o := r.options("ssh-key-fingerprint", "MD5:"+k.Fingerprint, "volume", []string{"data"}, "reserved-ip", "203.0.113.7", "vpc", fakeapi.VPC, "ipv6", true,
		"backup-policy", "weekly:sun@4", "image", "103", "tags", "a,b", "project", "shop", "monitoring", true, "private-networking", true)
	if err := r.d.Check(t.Context(), b.Host, o); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, r, b, o)
	e, err := r.d.Endpoint(b.Host)
	if err != nil || e.Address != "203.0.113.7" || !slices.Contains(e.SANs, "2001:db8::1") || len(e.SANs) != 3 {
		t.Errorf("Endpoint: %+v, %v", e, err)
	}
	d := r.api.Droplets()[0]
	if d.VPCUUID != fakeapi.VPC || !slices.Contains(d.Tags, "a") || !slices.Contains(d.Tags, "berth-store:"+storeID) || len(d.VolumeIDs) != 1 {
		t.Errorf("the droplet is %+v", d)
	}
	if p := r.api.Project(fakeapi.Project); len(p) != 1 {
		t.Errorf("the project has %v", p)
	}
	mustRemove(t, r, b)
	r.wantLeft(t, "key", "reserved", "volume")
}
