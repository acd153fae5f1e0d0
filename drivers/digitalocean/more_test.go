package digitalocean_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitalocean/godo"
	"golang.org/x/crypto/ssh"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/digitalocean"
)

func keyOf(t *testing.T, name string) godo.Key {
	t.Helper()
	line := newBox(t, "x").Keys.HostPublic
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	return godo.Key{Name: name, PublicKey: line, Fingerprint: ssh.FingerprintLegacyMD5(k)}
}

// TestFirewall follows who is let in: nobody to the engine before it is known who we are, then we, then somebody else.
// TestFirewallOfAnEngineBySSH: SSH is guarded as ever, and nobody reaches the engine's port, where nothing listens.
func TestFirewallOfAnEngineBySSH(t *testing.T) {
	r, b := newRig(t), newBox(t, "web1")
	const me, other = "192.0.2.7", "192.0.2.8"
	o := r.options()
	o["digitalocean-expose"] = "ssh"
	mustCreate(t, r, b, o)
	if err := r.d.Greeted(t.Context(), b.Host, netip.MustParseAddr(me)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		port     int
		from     string
		admitted bool
	}{{22, me, true}, {22, other, false}, {2376, me, false}, {443, other, true}} {
		if got := r.api.Admits(r.api.Droplets()[0].ID, "tcp", want.port, want.from); got != want.admitted {
			t.Errorf("%s reaches %d: %t", want.from, want.port, got)
		}
	}
	if e, err := r.d.Endpoint(b.Host); err != nil || !e.SSHOnly {
		t.Errorf("endpoint %+v, %v", e, err)
	}
}

func TestFirewall(t *testing.T) {
	r, b := newRig(t), newBox(t, "web1")
	const me, other = "192.0.2.7", "192.0.2.8"
	id := 0
	want := func(when string, port int, from string, admitted bool) {
		t.Helper()
		if got := r.api.Admits(id, "tcp", port, from); got != admitted {
			t.Errorf("%s: %s reaches %d: %t", when, from, port, got)
		}
	}
	mustCreate(t, r, b, r.options())
	id = r.api.Droplets()[0].ID
	want("fresh", 22, other, true)
	want("fresh", 2376, me, false)
	want("fresh", 8080, other, true)
	want("fresh", 2377, other, false)

	if err := r.d.Greeted(t.Context(), b.Host, netip.MustParseAddr("::ffff:"+me)); err != nil {
		t.Fatal(err)
	}
	for _, port := range []int{22, 2376} {
		want("greeted", port, me, true)
		want("greeted", port, other, false)
	}
	want("greeted", 443, other, true)
	mustCreate(t, r, b, r.options())
	want("created again", 22, other, false)

	if err := r.d.Unreached(t.Context(), b.Host); err != nil {
		t.Fatal(err)
	}
	want("unreached", 22, other, true)
	want("unreached", 2376, me, false)
	if err := r.d.Greeted(t.Context(), b.Host, netip.MustParseAddr(other)); err != nil {
		t.Fatal(err)
	}
	want("moved", 2376, other, true)
	want("moved", 22, me, false)
	mustRemove(t, r, b)
	r.wantLeft(t)

	b = newBox(t, "web2")
	mustCreate(t, r, b, r.options("allow-from", "198.51.100.0/24, "+me, "ssh-port", 2222))
	id = r.api.Droplets()[0].ID
	if err := r.d.Greeted(t.Context(), b.Host, netip.MustParseAddr(other)); err != nil {
		t.Fatal(err)
	}
	want("told", 2222, me, true)
	want("told", 2376, "198.51.100.9", true)
	want("told", 2376, other, false)
	want("told", 2222, other, false)
	want("told", 22, other, true) // not SSH's here
	mustRemove(t, r, b)

	b = newBox(t, "web3")
	mustCreate(t, r, b, r.options("expose", "open"))
	id = r.api.Droplets()[0].ID
	want("open", 2376, other, true)
	mustRemove(t, r, b)
	r.wantLeft(t)
}

// TestManyAtOnce: creates at the same time share what they ask for, and stay below the limit of a minute.
func TestManyAtOnce(t *testing.T) {
	r := newRig(t)
	conf := quick
	conf.PerSecond, conf.Poll = 0, 0 // the real ones
	r.d = digitalocean.New(conf)
	const n = 20
	boxes := make([]*box, n)
	var wg sync.WaitGroup
	for i := range boxes {
		boxes[i] = newBox(t, fmt.Sprintf("web%d", i))
		wg.Add(1)
		go func() {
			defer wg.Done()
			o := r.options("expose", "open")
			if err := r.d.Check(t.Context(), boxes[i].Host, o); err != nil {
				t.Error(err)
			}
			if err := r.d.Create(t.Context(), boxes[i].Host, o); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	counts := map[string]int{}
	for _, q := range r.api.Requests() {
		path, _, _ := strings.Cut(q.Path, "?")
		counts[q.Method+" "+path]++
	}
	for request, most := range map[string]int{"GET /v2/account": 1, "GET /v2/sizes": 1, "GET /v2/regions": 1, "POST /v2/droplets": n, "POST /v2/account/keys": n} {
		if counts[request] > most {
			t.Errorf("%d times %s, want at most %d", counts[request], request, most)
		}
	}
	wantRate(t, r)
	if len(r.api.Droplets()) != n {
		t.Errorf("there are %d droplets", len(r.api.Droplets()))
	}
}

// wantRate: in no minute more requests than DigitalOcean allows.
func wantRate(t *testing.T, r *rig) {
	t.Helper()
	q := r.api.Requests()
	for i := range q {
		in := 0
		for _, other := range q[i:] {
			if other.At.Sub(q[i].At) < time.Minute {
				in++
			}
		}
		if in > 250 {
			t.Fatalf("%d requests in a minute", in)
		}
	}
}

// TestStatesShareOneLook: a listing of machines costs a request for all, not one for each.
func TestStatesShareOneLook(t *testing.T) {
	r := newRig(t)
	r.api.Looks = 0
	boxes := []*box{newBox(t, "a"), newBox(t, "b"), newBox(t, "c")}
	for _, b := range boxes {
		mustCreate(t, r, b, r.options("expose", "open"))
	}
	conf := quick
	conf.Poll = time.Hour
	r.d = digitalocean.New(conf)
	before := len(r.api.Requests())
	for _, b := range boxes {
		if st, err := r.d.State(t.Context(), b.Host); st != drivers.Running || err != nil {
			t.Errorf("%s, %v", st, err)
		}
	}
	if n := len(r.api.Requests()) - before; n != 1 {
		t.Errorf("%d requests for three states", n)
	}
}

func TestVanishedDroplet(t *testing.T) {
	r, b := newRig(t), newBox(t, "web1")
	mustCreate(t, r, b, r.options())
	first := r.api.Droplets()[0].ID
	r.api.Vanish(first)
	r.d = digitalocean.New(quick) // which has not looked yet
	if st, err := r.d.State(t.Context(), b.Host); st != drivers.NotFound || err != nil {
		t.Errorf("%s, %v", st, err)
	}
	if err := r.d.Start(t.Context(), b.Host); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("Start: %v", err)
	}
	if err := r.d.Stop(t.Context(), b.Host); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("Stop: %v", err)
	}
	mustCreate(t, r, b, r.options()) // makes another
	if d := r.api.Droplets(); len(d) != 1 || d[0].ID == first {
		t.Errorf("there are %+v", d)
	}
	r.api.Vanish(r.api.Droplets()[0].ID)
	mustRemove(t, r, b)
	r.wantLeft(t)
}

// TestOrphans: what no machine knows of is found and deleted, what one knows of stays, and a second run finds nothing.
func TestOrphans(t *testing.T) {
	r := newRig(t)
	kept, lost, foreign := newBox(t, "kept"), newBox(t, "lost"), newBox(t, "foreign")
	foreign.StoreID = func() (string, error) { return "00000000000000bb", nil }
	for _, b := range []*box{kept, lost, foreign} {
		mustCreate(t, r, b, r.options("volume", []string{"new:1"}, "reserved-ip", "new"))
	}
	nobody := newBox(t, "")
	known := []json.RawMessage{kept.State, nil}
	orphans, err := r.d.Orphans(t.Context(), nobody.Host, r.options(), known)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, o := range orphans {
		kinds = append(kinds, o.Kind)
	}
	if !slices.Equal(kinds, []string{"reserved-ip", "droplet", "volume", "firewall", "ssh-key", "tag"}) || orphans[1].Name != "lost" || !strings.Contains(orphans[1].Detail, "s-1vcpu-1gb, nyc3") {
		t.Fatalf("found %+v", orphans)
	}
	for range 2 { // twice: what is gone is no error
		for _, o := range orphans {
			if err := r.d.Collect(t.Context(), nobody.Host, r.options(), o); err != nil {
				t.Errorf("%+v: %v", o, err)
			}
		}
	}
	again, err := r.d.Orphans(t.Context(), nobody.Host, r.options(), known)
	if err != nil || len(again) != 0 {
		t.Errorf("a second time: %+v, %v", again, err)
	}
	r.wantLeft(t, "droplet foreign", "droplet kept", "firewall", "firewall", "key", "key", "reserved", "reserved", "tag", "tag", "volume", "volume")
	if _, err := r.d.Orphans(t.Context(), nobody.Host, r.options(), []json.RawMessage{[]byte(`{"version":9}`)}); err == nil {
		t.Error("a record that cannot be read is passed over")
	}
}

func TestCatalogs(t *testing.T) {
	r := newRig(t)
	for name, want := range map[string]string{"sizes": "s-1vcpu-1gb 1 1024 25 1 6.00 0.00893 ams3,nyc3", "regions": "nyc3 New York 3 3 backups,", "images": "debian-12-x64 Debian 12 x64 7 base"} {
		c, err := r.d.Catalog(t.Context(), newBox(t, "").Host, r.options(), name)
		if err != nil || len(c.Rows) == 0 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := strings.Join(c.Rows[0], " "); !strings.HasPrefix(got, want) {
			t.Errorf("%s begin with %q, want %q", name, got, want)
		}
		for _, row := range c.Rows {
			if len(row) != len(c.Columns) {
				t.Errorf("%s: %v does not fit %v", name, row, c.Columns)
			}
		}
	}
	if _, err := r.d.Catalog(t.Context(), newBox(t, "").Host, r.options(), "prices"); err == nil {
		t.Error("a list that does not exist")
	}
}

func TestResizeAndSnapshot(t *testing.T) {
	r, b := newRig(t), newBox(t, "web1")
	mustCreate(t, r, b, r.options())
	if err := r.d.Resize(t.Context(), b.Host, "s-9vcpu", false); err == nil || !strings.Contains(err.Error(), "the nearest are") {
		t.Errorf("no such size: %v", err)
	}
	if err := r.d.Resize(t.Context(), b.Host, "s-2vcpu-4gb", true); err != nil {
		t.Fatal(err)
	}
	if d := r.api.Droplets()[0]; d.SizeSlug != "s-2vcpu-4gb" || d.Status != "active" {
		t.Errorf("the droplet is %s, %s", d.SizeSlug, d.Status)
	}
	image, err := r.d.Snapshot(t.Context(), b.Host, "before")
	if err != nil {
		t.Fatal(err)
	}
	copy := newBox(t, "web2")
	o := r.options("image", image)
	if err := r.d.Check(t.Context(), copy.Host, o); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, r, copy, o)
}

// TestStateIsRead: a record of a later version, or a damaged one, is an error and no panic.
func TestStateIsRead(t *testing.T) {
	r := newRig(t)
	for _, s := range []string{`{"version":2,"mark":"x","store":"y"}`, `{"version":1}`, `{`, `[]`} {
		b := newBox(t, "web1")
		b.State = json.RawMessage(s)
		if _, err := r.d.Endpoint(b.Host); err == nil {
			t.Errorf("%s has an endpoint", s)
		}
		if err := r.d.Remove(t.Context(), b.Host); err == nil {
			t.Errorf("%s is removed", s)
		}
	}
}

// TestLocate: a droplet whose address has changed is found, also without the right to record it.
func TestLocate(t *testing.T) {
	r, b := newRig(t), newBox(t, "web1")
	mustCreate(t, r, b, r.options())
	right, err := r.d.Endpoint(b.Host)
	if err != nil {
		t.Fatal(err)
	}
	b.State = bytes.ReplaceAll(b.State, []byte(right.Address), []byte("192.0.2.99"))
	b.Save = func(json.RawMessage) error { return errors.New("not locked") }
	r.d = digitalocean.New(quick)
	if w, err := r.d.Warnings(t.Context(), b.Host); err != nil || len(w) != 1 || !strings.Contains(w[0], right.Address) {
		t.Errorf("Warnings: %q, %v", w, err)
	}
	ep, err := r.d.Locate(t.Context(), b.Host)
	if err != nil || ep.Address != right.Address || !bytes.Contains(b.State, []byte(right.Address)) {
		t.Errorf("%+v, %v", ep, err)
	}
	r.api.Vanish(r.api.Droplets()[0].ID)
	r.d = digitalocean.New(quick)
	if _, err := r.d.Locate(t.Context(), b.Host); err == nil {
		t.Error("a droplet that is gone is somewhere")
	}
}

// TestOptionsOfASecondCreate: what can still be changed is, and of the rest the driver tells that it stays.
func TestOptionsOfASecondCreate(t *testing.T) {
	r, b := newRig(t), newBox(t, "web1")
	mustCreate(t, r, b, r.options())
	settled, err := r.d.Settled(b.Host)
	for flag, want := range map[string]bool{"region": true, "tags": true, "allow-from": false, "expose": false, "access-token-command": false} {
		if err != nil || slices.Contains(settled, "digitalocean-"+flag) != want {
			t.Errorf("%s is settled: %t, %v", flag, !want, err)
		}
	}
	mustCreate(t, r, b, r.options("allow-from", "192.0.2.0/24"))
	id := r.api.Droplets()[0].ID
	if r.api.Admits(id, "tcp", 22, "198.51.100.1") || !r.api.Admits(id, "tcp", 2376, "192.0.2.9") {
		t.Error("the firewall is as before")
	}
	mustCreate(t, r, b, r.options("expose", "open"))
	r.wantLeft(t, "droplet web1", "key", "tag")
	mustRemove(t, r, b)
	r.wantLeft(t)
}
