//go:build linux

package hosts

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/getberth/berth/sshutil"
)

// patience bounds how long a host may take to boot on a computer that has much else to do.
const patience = 10 * time.Minute

// host is a Debian in a virtual machine, of which the test knows what its owner would.
type host struct {
	address string
	keyFile string
	outside string // how the host calls this computer
	ssh     sshutil.Endpoint
	become  string // a command that makes the user root; empty when it is
}

// newDebian boots a Debian. The simulator of DigitalOcean makes it; nothing of that cloud is used otherwise.
func newDebian(t *testing.T) *host {
	t.Helper()
	cloud := startCloud(t)
	key, err := sshutil.NewKey("hosts")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{keyFile: filepath.Join(t.TempDir(), "key"), outside: cloud.outside}
	if err := os.WriteFile(h.keyFile, key.Private, 0o600); err != nil {
		t.Fatal(err)
	}
	h.address = cloud.droplet(t, key.Public)
	h.connect(t)
	return h
}

// connect waits until the host has come up.
func (h *host) connect(t *testing.T) {
	t.Helper()
	h.ssh = sshutil.Endpoint{Host: h.address, KeyPaths: []string{h.keyFile}}
	h.pin(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.run(ctx, "cloud-init status --wait >/dev/null; systemctl is-system-running --wait >/dev/null\n"+awake, io.Discard); err != nil {
		t.Fatal(err)
	}
}

// awake keeps an emulated processor busy a little: one that idles for half a minute may take as long to wake up.
const awake = "nohup sh -c 'while :; do sleep 1; done' >/dev/null 2>&1 </dev/null &"

// pin waits for the SSH server and trusts the key that it shows.
func (h *host) pin(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for h.ssh.HostKeys == nil {
		shown, err := sshutil.ScanHostKey(ctx, h.ssh)
		switch {
		case err == nil:
			h.ssh.HostKeys = []string{shown}
		case ctx.Err() != nil:
			t.Fatalf("the host does not come up: %v", err)
		default:
			time.Sleep(time.Second)
		}
	}
}

// run runs a script on the host, as soon as that lets us in.
func (h *host) run(ctx context.Context, script string, out io.Writer) error {
	c, err := sshutil.WaitReady(ctx, h.ssh, sshutil.Wait{Auth: patience, HostKey: patience})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Run(ctx, strings.TrimSpace(h.become+" sh -s"), strings.NewReader(script), out, nil)
}

// traces lists all that the engine could leave on the host: files with their modes, links, control groups, processes, mounts.
// What a running system changes by itself is left out, such as link-local addresses, which come a while after a boot, and the
// numbers in an automount's options, which differ from boot to boot.
const traces = `find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /run -o -path /var/log -o -path /var/cache \
	-o -path /var/tmp -o -path /var/lib/systemd -o -path /var/lib/cloud -o -path /root/.cache \) -prune -o -exec stat -c '%N %F %a' {} + | sort
ls /run /var/log /sys/class/net | sort
ip -4 addr | grep inet | sort; grep -v -e ^tmpfs -e /sys/fs/cgroup /proc/mounts | sed -E 's/(fd|pipe_ino)=[0-9]+/\1=N/g' | sort
find /sys/fs/cgroup -type d | grep -v -e '\.scope$' -e '/user.slice' -e '/system.slice/.*\.service$' -e '/openrc' | grep -e berth -e docker
cat /proc/*/comm 2>/dev/null | grep berth
if command -v systemctl >/dev/null; then systemctl list-unit-files 'berth*' --no-legend; systemctl list-units --all 'berth*' --no-legend; fi
true`

func (h *host) traces(ctx context.Context) (string, error) {
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := h.run(ctx, traces, &out)
	return out.String(), err
}

// cloud is a running simulator.
type cloud struct {
	url, token string
	outside    string // this computer, as droplets see it
}

// startCloud builds and runs the simulator, which ends with the test.
func startCloud(t *testing.T) cloud {
	t.Helper()
	cmd := exec.Command(simulator(t), "-quiet")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setsid: true} // a terminal would stop what makes the image
	said := &lines{}
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the simulator: %v\n%s", err, said)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the simulator does not start: %v\n%s", err, said)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	var c cloud
	for _, word := range strings.Fields(line) {
		if name, value, _ := strings.Cut(word, "="); name == "DIGITALOCEAN_API_URL" {
			c.url = value
		} else if name == "DIGITALOCEAN_ACCESS_TOKEN" {
			c.token = value
		}
	}
	seen := regexp.MustCompile(`see this host as ([0-9.]+)`)
	for end := time.Now().Add(10 * time.Second); c.outside == "" && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if found := seen.FindStringSubmatch(said.String()); found != nil { // it has said so, but on another pipe
			c.outside = found[1]
		}
	}
	if c.url == "" || c.token == "" || c.outside == "" {
		t.Fatalf("the simulator says %q and\n%s", line, said)
	}
	return c
}

// simulator builds the simulator, unless $DOSIM names one.
func simulator(t *testing.T) string {
	t.Helper()
	if program := os.Getenv("DOSIM"); program != "" {
		return program
	}
	if _, err := os.Stat("../dosim/cmd/dosim"); err != nil {
		t.Skip("test/dosim, which makes the host, is not there")
	}
	program := filepath.Join(t.TempDir(), "dosim")
	if out, err := exec.Command("go", "build", "-o", program, "../dosim/cmd/dosim").CombinedOutput(); err != nil {
		t.Fatalf("building the simulator: %v\n%s", err, out)
	}
	return program
}

// call asks the API.
func (c cloud) call(t *testing.T, method, path string, body, answer any) {
	t.Helper()
	text := c.ask(t, method, path, body)
	if err := json.Unmarshal(text, answer); err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
}

// control tells the simulator what is to go wrong.
func (c cloud) control(t *testing.T, path string, body any) {
	t.Helper()
	c.ask(t, http.MethodPost, path, body)
}

func (c cloud) ask(t *testing.T, method, path string, body any) []byte {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, c.url+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 300 {
		err = errors.New(res.Status)
	}
	if err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
	return text
}

// droplet makes a machine and returns its address.
func (c cloud) droplet(t *testing.T, publicKey string) string {
	t.Helper()
	var key struct {
		SSHKey struct {
			ID int `json:"id"`
		} `json:"ssh_key"`
	}
	c.call(t, http.MethodPost, "/v2/account/keys", map[string]any{"name": "hosts", "public_key": publicKey}, &key)
	type droplet struct {
		ID       int
		Networks struct {
			V4 []struct {
				Address string `json:"ip_address"`
				Type    string
			} `json:"v4"`
		}
	}
	var made struct{ Droplet droplet }
	c.call(t, http.MethodPost, "/v2/droplets", map[string]any{
		"name": "debian", "region": "nyc3", "size": "s-1vcpu-1gb", "image": "debian-12-x64", "ssh_keys": []int{key.SSHKey.ID},
	}, &made)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Second) {
		c.call(t, http.MethodGet, fmt.Sprintf("/v2/droplets/%d", made.Droplet.ID), nil, &made)
		for _, n := range made.Droplet.Networks.V4 {
			if n.Type == "public" {
				return n.Address
			}
		}
	}
	t.Fatal("the droplet has no address")
	return ""
}
