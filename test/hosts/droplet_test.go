//go:build linux

package hosts

import (
	"net/http"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestDroplet follows a droplet through its life, with the stock client, in a cloud whose droplets are real machines: cloud-init,
// OpenSSH, systemd. What becomes of a create that is killed at each request is tested in cmd/berth; here it is killed once.
func TestDroplet(t *testing.T) {
	bin := binaries(t)
	c := startCloud(t)
	mirror := serveMirror(t, c.outside)
	testscript.Run(t, testscript.Params{
		Files: []string{"testdata/droplet.txtar"},
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, user(bin, e.WorkDir, mirror)...)
			e.Vars = append(e.Vars, "DIGITALOCEAN_API_URL="+c.url, "DIGITALOCEAN_ACCESS_TOKEN="+c.token, "TOKEN="+c.token)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"nothing": func(ts *testscript.TestScript, _ bool, _ []string) { // nothing: all that was made is gone
				for _, list := range []string{"droplets", "account/keys", "firewalls", "volumes", "reserved_ips"} {
					var answer map[string]any
					c.call(t, http.MethodGet, "/v2/"+list, nil, &answer)
					for name, l := range answer {
						if l, ok := l.([]any); ok && len(l) > 0 {
							ts.Fatalf("%s are left: %v", name, l)
						}
					}
				}
			},
		},
	})
}
