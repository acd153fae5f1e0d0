//go:build linux

package vm_test

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/godo"
	"golang.org/x/crypto/ssh"

	"github.com/getberth/berth/test/dosim"
	"github.com/getberth/berth/test/dosim/vm"
)

// patience is how long a droplet may take to answer on a computer that has much else to do.
const patience = 10 * time.Minute

type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

func needs(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("booting droplets requires root")
	}
	for _, p := range []string{"qemu-system-x86_64", "qemu-img", "nft", "mmdebstrap", "busybox"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%v: test/setup test", err)
		}
	}
}

// setUp starts a simulator whose end leaves nothing behind.
func setUp(t *testing.T) (*vm.Cloud, *dosim.Server, *godo.Client) {
	t.Helper()
	needs(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute) // the image may have to be made
	defer cancel()
	cloud, err := vm.Open(ctx, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		link := cloud.Link()
		if err := cloud.Close(); err != nil {
			t.Error(err)
		}
		if _, err := net.InterfaceByName(link); err == nil {
			t.Errorf("link %s stays", link)
		}
	})
	s, err := dosim.Start(t.Context(), dosim.Options{Machines: cloud, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c, err := godo.New(&http.Client{Transport: bearer(s.Token)}, godo.SetBaseURL(s.URL+"/"))
	if err != nil {
		t.Fatal(err)
	}
	return cloud, s, c
}

func newKey(t *testing.T) (signer ssh.Signer, private, public string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err = ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer, string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// login waits until a droplet lets us in. That it presents another host key, or refuses ours once it answers, is no reason to wait.
func login(t *testing.T, address string, user, host ssh.Signer) *ssh.Client {
	t.Helper()
	config := &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(user)}, HostKeyCallback: ssh.FixedHostKey(host.PublicKey()),
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}, Timeout: 30 * time.Second}
	for end := time.Now().Add(patience); ; time.Sleep(500 * time.Millisecond) {
		c, err := ssh.Dial("tcp", net.JoinHostPort(address, "22"), config)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			return c
		}
		if strings.Contains(err.Error(), "ssh: ") || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func run(t *testing.T, c *ssh.Client, command string) string {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(command)
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

func complete(t *testing.T, c *godo.Client, a *godo.Action, err error) {
	t.Helper()
	for end := time.Now().Add(patience); err == nil && a.Status == godo.ActionInProgress; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("action %s takes too long", a.Type)
		}
		a, _, err = c.Actions.Get(t.Context(), a.ID)
	}
	if err != nil || a.Status != godo.ActionCompleted {
		t.Fatalf("action: %v, %v", a, err)
	}
}

// TestDroplet boots one droplet and looks at all that only a machine that runs can show.
func TestDroplet(t *testing.T) {
	cloud, s, c := setUp(t)
	ctx := t.Context()
	user, _, userLine := newKey(t)
	host, hostPrivate, hostLine := newKey(t)
	key, _, err := c.Keys.Create(ctx, &godo.KeyCreateRequest{Name: "test", PublicKey: userLine})
	if err != nil {
		t.Fatal(err)
	}
	d, resp, err := c.Droplets.Create(ctx, &godo.DropletCreateRequest{Name: "web1", Region: "nyc3", Size: "s-1vcpu-1gb", Image: godo.DropletCreateImage{Slug: "debian-12-x64"},
		SSHKeys: []godo.DropletCreateSSHKey{{ID: key.ID}},
		UserData: fmt.Sprintf("#cloud-config\nssh_keys:\n  ed25519_private: |\n    %s\n  ed25519_public: %s\nruncmd:\n  - [touch, /root/ran]\n",
			strings.ReplaceAll(strings.TrimSpace(hostPrivate), "\n", "\n    "), hostLine)})
	if err != nil {
		t.Fatal(err)
	}
	a, _, err := c.Actions.Get(ctx, resp.Links.Actions[0].ID)
	complete(t, c, a, err)
	if d, _, err = c.Droplets.Get(ctx, d.ID); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console:\n%s", cloud.Console(d.ID))
		}
	})
	public, _ := d.PublicIPv4()
	private, _ := d.PrivateIPv4()
	session := login(t, public, user, host)
	t.Run("is what its metadata says", func(t *testing.T) {
		if got := run(t, session, "hostname"); got != "web1" {
			t.Errorf("hostname is %s", got)
		}
		for nic, want := range map[string]string{"eth0": public, "eth1": private} {
			if got := run(t, session, "ip -br addr show dev "+nic); !strings.Contains(got, want+"/") {
				t.Errorf("%s has %s, want %s", nic, got, want)
			}
		}
		run(t, session, "cloud-init status --wait && test -e /root/ran")
		if got := run(t, session, "systemctl is-system-running --wait"); got != "running" {
			t.Errorf("system is %s: %s", got, run(t, session, "systemctl list-units --failed"))
		}
	})
	t.Run("firewall", func(t *testing.T) { testFirewall(t, c, d.ID, public) })
	t.Run("reserved IP", func(t *testing.T) {
		ip, _, err := c.ReservedIPs.Create(ctx, &godo.ReservedIPCreateRequest{DropletID: d.ID})
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, login(t, ip.IP, user, host), "hostname"); got != "web1" {
			t.Errorf("hostname is %s", got)
		}
	})
	t.Run("volume", func(t *testing.T) {
		v, _, err := c.Storage.CreateVolume(ctx, &godo.VolumeCreateRequest{Name: "data", Region: "nyc3", SizeGigaBytes: 1, FilesystemType: "ext4"})
		if err != nil {
			t.Fatal(err)
		}
		a, _, err := c.StorageActions.Attach(ctx, v.ID, d.ID)
		complete(t, c, a, err)
		run(t, session, "udevadm wait --timeout=60 /dev/disk/by-id/scsi-0DO_Volume_data && mount /dev/disk/by-id/scsi-0DO_Volume_data /mnt && touch /mnt/x && umount /mnt")
		a, _, err = c.StorageActions.DetachByDropletID(ctx, v.ID, d.ID)
		complete(t, c, a, err)
		if _, err := c.Storage.DeleteVolume(ctx, v.ID); err != nil {
			t.Error(err)
		}
	})
	t.Run("SSH that drops", func(t *testing.T) {
		if err := s.ResetSSH(d.ID, 2*time.Second); err != nil {
			t.Fatal(err)
		}
		if _, _, err := session.SendRequest("keepalive@openssh.com", true, nil); err == nil {
			t.Error("a connection lives on")
		}
		if conn, err := net.Dial("tcp", net.JoinHostPort(public, "22")); err == nil {
			conn.Close()
			t.Error("a connection is let in")
		}
		session = login(t, public, user, host)
	})
	t.Run("turned off and on", func(t *testing.T) {
		run(t, session, "touch /root/kept; sync")
		a, _, err := c.DropletActions.Shutdown(ctx, d.ID)
		complete(t, c, a, err)
		if d, _, err := c.Droplets.Get(ctx, d.ID); err != nil || d.Status != "off" {
			t.Errorf("droplet is %v, %v", d.Status, err)
		}
		a, _, err = c.DropletActions.PowerOn(ctx, d.ID)
		complete(t, c, a, err)
		run(t, login(t, public, user, host), "test -e /root/kept")
	})
	if _, err := c.Droplets.Delete(ctx, d.ID); err != nil {
		t.Error(err)
	}
}

func testFirewall(t *testing.T, c *godo.Client, id int, public string) {
	rule := func(ports string) []godo.InboundRule {
		return []godo.InboundRule{{Protocol: "tcp", PortRange: ports, Sources: &godo.Sources{Addresses: []string{"0.0.0.0/0"}}}}
	}
	f, _, err := c.Firewalls.Create(t.Context(), &godo.FirewallRequest{Name: "fw", InboundRules: rule("2376"), DropletIDs: []int{id}})
	if err != nil {
		t.Fatal(err)
	}
	dial := func(port string) error {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(public, port), 2*time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	}
	var timeout net.Error
	if err := dial("22"); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("port 22, which is not allowed: %v", err)
	}
	if err := dial("2376"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("port 2376, which is allowed and where nothing listens: %v", err)
	}
	if _, err := c.Firewalls.Delete(t.Context(), f.ID); err != nil {
		t.Fatal(err)
	}
	if err := dial("22"); err != nil {
		t.Errorf("port 22 without a firewall: %v", err)
	}
}
