package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// crash is one command of berth that is killed at one request to the API: before it is done, or as soon as it is.
type crash struct {
	method, path string
	after        bool
	past         string // only behind a request like this one: "POST /v2/droplets"
}

func (c crash) String() string {
	return fmt.Sprintf("%s %s, done: %t", c.method, strings.ReplaceAll(c.path, "/", " "), c.after)
}

// crashRig is a store, an account and berth as a process of its own.
type crashRig struct {
	*doCloud
	t    *testing.T
	home string

	mu    sync.Mutex // guards the rest
	at    *crash
	child *os.Process
	fired bool
	past  bool // the request that at.past names has been
}

func newCrashRig(t *testing.T) *crashRig {
	t.Helper()
	r := &crashRig{doCloud: newDoCloud(t.TempDir()), t: t, home: filepath.Join(t.TempDir(), "store")}
	t.Cleanup(r.close)
	r.api.Before = func(method, path string) { r.strike(method, path, false) }
	r.api.After = func(method, path string) { r.strike(method, path, true) }
	return r
}

// strike kills the child if this is the request.
func (r *crashRig) strike(method, path string, after bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at != nil && (r.at.past == "" || r.at.past == method+" "+path) {
		r.past = true
	}
	if r.at == nil || !r.past || r.fired || r.at.after != after || r.at.method != method || !strings.HasPrefix(path, r.at.path) {
		return
	}
	r.fired = true
	_ = r.child.Kill()
	_, _ = r.child.Wait()
}

// berth runs a command, and kills it at the given request.
func (r *crashRig) berth(at *crash, args ...string) (string, error) {
	r.t.Helper()
	exe, err := exec.LookPath("berth")
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), "BERTH_HOME="+r.home, "DIGITALOCEAN_API_URL="+r.server.URL, "DIGITALOCEAN_ACCESS_TOKEN="+doToken,
		"DIGITALOCEAN_SSH_PORT="+strconv.Itoa(doSSHPort))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	r.mu.Lock()
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.at, r.child, r.fired, r.past = at, cmd.Process, false, false
	r.mu.Unlock()
	err = cmd.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at = nil; at != nil && !r.fired {
		r.t.Errorf("%v: berth %v never came so far: %s", at, args, out.String())
	}
	return out.String(), err
}

func (r *crashRig) must(args ...string) {
	r.t.Helper()
	if out, err := r.berth(nil, args...); err != nil {
		r.t.Fatalf("berth %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (r *crashRig) wantLeft(want ...string) {
	r.t.Helper()
	var kinds []string
	for _, l := range r.api.Left() {
		kinds = append(kinds, strings.Fields(l)[0])
	}
	if !slices.Equal(kinds, want) {
		r.t.Errorf("the account has %v", r.api.Left())
	}
	for _, p := range r.api.Problems() {
		r.t.Errorf("a request that the API refuses: %s", p)
	}
}

// changes are all requests of a create, and of a removal, that change anything, and a few that look.
var changes = struct{ create, remove []string }{
	create: []string{"POST /v2/tags", "POST /v2/account/keys", "POST /v2/firewalls", "POST /v2/volumes", "POST /v2/droplets", "POST /v2/droplets>GET /v2/droplets",
		"POST /v2/reserved_ips", "POST /v2/droplets>GET /v2/reserved_ips", "POST /v2/projects", "PUT /v2/firewalls"},
	remove: []string{"GET /v2/droplets", "DELETE /v2/droplets", "DELETE /v2/reserved_ips", "DELETE /v2/volumes", "DELETE /v2/firewalls", "DELETE /v2/account/keys", "DELETE /v2/tags"},
}

func crashes(requests []string) (l []crash) {
	for _, q := range requests {
		past, q, ok := strings.Cut(q, ">")
		if !ok {
			past, q = "", past
		}
		method, path, _ := strings.Cut(q, " ")
		l = append(l, crash{method, path, false, past}, crash{method, path, true, past})
	}
	return l
}

var createArgs = []string{"create", "-d", "digitalocean", "--digitalocean-volume", "new:1", "--digitalocean-reserved-ip", "new", "--digitalocean-project", "shop", "web1"}

var allKinds = []string{"droplet", "firewall", "key", "reserved", "tag", "volume"}

// TestKilledCreate: wherever a create is killed, rm removes all of it, and the same command ends with one of each thing.
func TestKilledCreate(t *testing.T) {
	for _, at := range crashes(changes.create) {
		t.Run(at.String(), func(t *testing.T) {
			t.Parallel()
			r := newCrashRig(t)
			_, _ = r.berth(&at, createArgs...)
			if _, err := os.Stat(filepath.Join(r.home, "machines", "web1")); err == nil {
				r.must("rm", "-f", "web1")
			}
			r.wantLeft()
			_, _ = r.berth(&at, createArgs...)
			r.must(createArgs...)
			r.wantLeft(allKinds...)
			r.must("gc", "--dry-run")
			r.must("rm", "-y", "web1")
			r.wantLeft()
		})
	}
}

// TestKilledRemoval: wherever a removal is killed, the record stays as long as there is anything, and the next removal ends it.
func TestKilledRemoval(t *testing.T) {
	for _, at := range crashes(changes.remove) {
		t.Run(at.String(), func(t *testing.T) {
			t.Parallel()
			r := newCrashRig(t)
			r.must(createArgs...)
			_, _ = r.berth(&at, "rm", "-f", "web1")
			if _, err := os.Stat(filepath.Join(r.home, "machines", "web1", "machine.json")); err != nil {
				t.Errorf("the record is gone before the cloud has confirmed: %v", err)
			}
			r.must("rm", "-f", "web1")
			r.wantLeft()
		})
	}
}

// TestLostRecord: of a create that was killed and whose record was lost, gc finds all that bears the mark, and the address that bears
// none by its droplet.
func TestLostRecord(t *testing.T) {
	r := newCrashRig(t)
	_, _ = r.berth(&crash{method: "POST", path: "/v2/reserved_ips", after: true}, createArgs...)
	if err := os.RemoveAll(filepath.Join(r.home, "machines")); err != nil {
		t.Fatal(err)
	}
	r.wantLeft(allKinds...)
	r.must("gc", "-y")
	r.wantLeft()
	out, err := r.berth(nil, "gc", "-y")
	if err != nil || !strings.Contains(out, "Nothing is lost.") {
		t.Errorf("a second time: %v, %s", err, out)
	}
}
