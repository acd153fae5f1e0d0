//go:build linux

package hosts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// droplets is the rig of one script.
type droplets struct {
	t    *testing.T
	c    cloud
	cuts *cuts
	env  []string
	dir  string
}

// TestDroplet follows a droplet through its life, with the stock client, in a cloud whose droplets are real machines: cloud-init,
// OpenSSH, systemd. Its creation is killed at each step, and the cloud has its bad moments.
func TestDroplet(t *testing.T) {
	d := &droplets{t: t}
	bin := binaries(t)
	d.c = startCloud(t)
	mirror := serveMirror(t, d.c.outside)
	testscript.Run(t, testscript.Params{
		Files: []string{"testdata/droplet.txtar"},
		Setup: func(e *testscript.Env) error {
			d.dir = e.WorkDir
			d.cuts = newCuts(t, d.c, filepath.Join(e.WorkDir, "store"), "consul")
			other := filepath.Join(e.WorkDir, "bin") // berth under its other name
			e.Vars = append(e.Vars, user(bin+":"+other, e.WorkDir, mirror)...)
			e.Vars = append(e.Vars, "DIGITALOCEAN_API_URL="+d.cuts.api.URL, "DIGITALOCEAN_PRIVATE_NETWORKING=true", "DIGITALOCEAN_IMAGE=debian-12-x64",
				"DIGITALOCEAN_ACCESS_TOKEN="+d.c.token, "TOKEN="+d.c.token)
			d.env = slices.Clone(e.Vars)
			if err := os.Mkdir(other, 0o755); err != nil {
				return err
			}
			return os.Symlink(filepath.Join(bin, "berth"), filepath.Join(other, "docker-machine"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"nothing": d.nothing, "fault": d.fault, "killed": d.killed},
	})
}

// nothing: all that was made is gone.
func (d *droplets) nothing(ts *testscript.TestScript, _ bool, _ []string) {
	for _, list := range []string{"droplets", "account/keys", "firewalls", "volumes", "reserved_ips"} {
		var answer map[string]any
		d.c.call(d.t, http.MethodGet, "/v2/"+list, nil, &answer)
		for name, l := range answer {
			if l, ok := l.([]any); ok && len(l) > 0 {
				ts.Fatalf("%s are left: %v", name, l)
			}
		}
	}
}

// fault KIND JSON: something is to go wrong in the cloud.
func (d *droplets) fault(ts *testscript.TestScript, _ bool, args []string) {
	d.c.control(d.t, "/dosim/"+args[0], json.RawMessage(args[1]))
}

// killed COMMAND…: a create, killed at each of its steps and gone on with. In the middle of provisioning SSH drops instead.
func (d *droplets) killed(ts *testscript.TestScript, _ bool, args []string) {
	d.cuts.instead("step: Detecting the system", func() {
		d.c.control(d.t, fmt.Sprintf("/dosim/droplets/%d/ssh", d.c.only(d.t)), map[string]string{"reset_for": "1s"})
	})
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(d.dir, "bin", "docker-machine"), args...)
		cmd.Dir, cmd.Env = d.dir, d.env
		return cmd
	}
	look := func() error {
		out, err := command("gc", "--dry-run").CombinedOutput()
		if err == nil && !bytes.Contains(out, []byte("Nothing is lost.")) {
			err = fmt.Errorf("lost is %s", out)
		}
		return err
	}
	ts.Check(d.cuts.create(func() *exec.Cmd { return command(args...) }, look, ts.Stdout()))
	ts.Logf("killed at:\n%s", strings.Join(d.cuts.order, "\n"))
	for _, event := range points() {
		if !slices.Contains(d.cuts.order, event) {
			ts.Fatalf("it was not killed at %q", event)
		}
	}
	d.c.only(d.t)
	if n := d.c.made(d.t); n != 1 {
		ts.Fatalf("%d droplets were made", n)
	}
}

// points are those where a create must have been killed, besides the states of the journal. While it replaces the host key there are
// two such.
func points() []string {
	l := []string{"asked POST /v2/account/keys"} // whose answer is lost
	for _, r := range []string{"POST /v2/tags", "POST /v2/firewalls", "POST /v2/droplets", "PUT /v2/firewalls/ID"} {
		l = append(l, "asked "+r, "done "+r)
	}
	for _, step := range []string{"Checking", "Creating the machine", "Waiting for SSH", "Installing the engine",
		"Configuring the engine", "Issuing certificates", "Running the engine", "Checking the engine", "Waiting for the engine"} {
		l = append(l, "step: "+step)
	}
	return l
}

// only is the id of the one droplet that there is.
func (c cloud) only(t *testing.T) int {
	t.Helper()
	var list struct{ Droplets []struct{ ID int } }
	c.call(t, http.MethodGet, "/v2/droplets", nil, &list)
	if len(list.Droplets) != 1 {
		t.Fatalf("the droplets are %v", list.Droplets)
	}
	return list.Droplets[0].ID
}

// made is how many droplets were ever made.
func (c cloud) made(t *testing.T) (n int) {
	t.Helper()
	var all struct {
		Calls []struct {
			Method, Path string
			Status       int
		}
	}
	c.call(t, http.MethodGet, "/dosim/calls", nil, &all)
	for _, call := range all.Calls {
		if call.Method == http.MethodPost && call.Path == "/v2/droplets" && call.Status == http.StatusAccepted {
			n++
		}
	}
	return n
}
