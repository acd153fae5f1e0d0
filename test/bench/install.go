//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/digitalocean/godo"

	"github.com/getberth/berth/sshutil"
	"github.com/getberth/berth/test/dosim"
	"github.com/getberth/berth/test/dosim/vm"
)

// bootPatience bounds the boot of an emulated Debian.
const bootPatience = 10 * time.Minute

// measureInstall compares what it takes until an engine runs on a Debian that lets us in: berth's generic driver, up to an answer over
// TLS, and `apt-get install docker.io` from a mirror on this computer, whose package lists are there. Both sides send what they install over
// the same network. Each round is ours, its removal, theirs, its removal, on one machine: what the first round finds cold, it is ours
// that finds it so.
func measureInstall(ctx context.Context, b *bench) (figures []figure, err error) {
	d, err := b.newDebian(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	f := figure{what: "berth create -d generic to the engine's answer over TLS", unit: "s", with: "apt-get install docker.io", target: target{most: 0.2, ratio: true}}
	for n := range b.installs {
		progress("installing an engine, round %d of %d", n+1, b.installs)
		ours, err := d.installOurs(ctx, fmt.Sprintf("host%d", n))
		if err != nil {
			return nil, err
		}
		theirs, err := d.installTheirs(ctx)
		if err != nil {
			return nil, err
		}
		progress("  berth %.1f s, docker.io %.1f s", seconds(ours), seconds(theirs))
		f.ours, f.peer = append(f.ours, seconds(ours)), append(f.peer, seconds(theirs))
	}
	return []figure{f}, nil
}

// debianHost is the virtual machine: a droplet of the simulator.
type debianHost struct {
	lab    *lab
	cloud  *vm.Cloud
	api    *dosim.Server
	ssh    sshutil.Endpoint
	client *sshutil.Client
	mirror *http.Server
}

func (b *bench) newDebian(ctx context.Context) (d *debianHost, err error) {
	d = &debianHost{lab: &lab{b: b, home: filepath.Join(b.dir, "installs")}}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if err = os.MkdirAll(d.lab.home, 0o700); err != nil {
		return d, err
	}
	if d.cloud, err = vm.Open(ctx, os.Stderr); err != nil {
		return d, err
	}
	if d.api, err = dosim.Start(ctx, dosim.Options{Machines: d.cloud}); err != nil {
		return d, err
	}
	progress("booting Debian")
	if err = d.boot(ctx); err != nil {
		return d, err
	}
	status, err := d.run(ctx, "cat /var/lib/dpkg/status")
	if err != nil {
		return d, err
	}
	packages, err := packagesFor(ctx, status, "docker.io")
	if err != nil {
		return d, err
	}
	return d, d.serve(ctx, packages)
}

// boot makes the droplet, and waits until it has come up.
func (d *debianHost) boot(ctx context.Context) error {
	key, err := sshutil.NewKey("bench")
	if err != nil {
		return err
	}
	d.ssh.KeyPaths = []string{filepath.Join(d.lab.home, "key")}
	if err := os.WriteFile(d.ssh.KeyPaths[0], key.Private, 0o600); err != nil {
		return err
	}
	api, err := godo.New(&http.Client{Transport: bearer{d.api.Token}}, godo.SetBaseURL(d.api.URL+"/"))
	if err != nil {
		return err
	}
	added, _, err := api.Keys.Create(ctx, &godo.KeyCreateRequest{Name: "bench", PublicKey: key.Public})
	if err != nil {
		return err
	}
	made, _, err := api.Droplets.Create(ctx, &godo.DropletCreateRequest{Name: "debian", Region: "nyc3", Size: "s-1vcpu-2gb",
		Image: godo.DropletCreateImage{Slug: "debian-12-x64"}, SSHKeys: []godo.DropletCreateSSHKey{{ID: added.ID}}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bootPatience)
	defer cancel()
	for d.ssh.Host == "" {
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		got, _, err := api.Droplets.Get(ctx, made.ID)
		if err != nil {
			return err
		}
		d.ssh.Host, _ = got.PublicIPv4()
	}
	for d.ssh.HostKeys == nil {
		if shown, err := sshutil.ScanHostKey(ctx, d.ssh); err == nil {
			d.ssh.HostKeys = []string{shown}
		} else if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	if d.client, err = sshutil.WaitReady(ctx, d.ssh, sshutil.Wait{Auth: bootPatience, HostKey: bootPatience}); err != nil {
		return err
	}
	_, err = d.run(ctx, "cloud-init status --wait >/dev/null; systemctl is-system-running --wait >/dev/null; true")
	return err
}

// bearer adds the token to each request.
type bearer struct{ token string }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return http.DefaultTransport.RoundTrip(r)
}

// run runs a script as root.
func (d *debianHost) run(ctx context.Context, script string) (string, error) {
	var out, errOut bytes.Buffer
	if err := d.client.Run(ctx, "sh -s", strings.NewReader(script), &out, &errOut); err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", script, err, out.Bytes(), errOut.Bytes())
	}
	return out.String(), nil
}

// serve has the machine take its packages from a folder.
func (d *debianHost) serve(ctx context.Context, packages string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.cloud.Host().String()+":0")
	if err != nil {
		return err
	}
	d.mirror = &http.Server{Handler: http.FileServer(http.Dir(packages)), ReadHeaderTimeout: time.Minute}
	go func() { _ = d.mirror.Serve(l) }()
	_, err = d.run(ctx, "rm -rf /etc/apt/sources.list.d; echo 'deb [trusted=yes] http://"+l.Addr().String()+" ./' >/etc/apt/sources.list")
	return err
}

// installOurs adopts the host and leaves it again.
func (d *debianHost) installOurs(ctx context.Context, name string) (took time.Duration, err error) {
	began := time.Now()
	if _, err := d.lab.berth(ctx, "create", "-d", "generic", "--generic-ip-address", d.ssh.Host, "--generic-ssh-key", d.ssh.KeyPaths[0],
		"--generic-host-key", d.ssh.HostKeys[0], name); err != nil {
		return 0, err
	}
	client, err := d.lab.engineClient(name)
	if err != nil {
		return 0, err
	}
	if !answers(ctx, client, "https://"+net.JoinHostPort(d.ssh.Host, "2376")+"/_ping") {
		return 0, errors.New("the engine does not answer over TLS")
	}
	took = time.Since(began)
	_, err = d.lab.berth(ctx, "rm", "-y", "--uninstall", name)
	return took, err
}

// installTheirs installs docker.io as its users do, with what it recommends. The package's script returns when dockerd runs.
func (d *debianHost) installTheirs(ctx context.Context) (time.Duration, error) {
	if _, err := d.run(ctx, "apt-get update -qq"); err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := d.run(ctx, "export DEBIAN_FRONTEND=noninteractive; apt-get install -y -qq docker.io"); err != nil {
		return 0, err
	}
	took := time.Since(began)
	_, err := d.run(ctx, "export DEBIAN_FRONTEND=noninteractive; apt-get purge -y -qq --autoremove docker.io && rm -rf /var/lib/docker /var/lib/containerd /var/lib/apt/lists/* && apt-get clean; ip link del docker0 2>/dev/null; true")
	return took, err
}

func (d *debianHost) close() error {
	var errs []error
	if d.mirror != nil {
		errs = append(errs, d.mirror.Close())
	}
	if d.client != nil {
		d.client.Close()
	}
	if d.api != nil {
		errs = append(errs, d.api.Close())
	}
	if d.cloud != nil {
		errs = append(errs, d.cloud.Close())
	}
	return errors.Join(errs...)
}
