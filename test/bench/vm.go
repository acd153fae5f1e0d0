//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/getberth/berth/test/images"
)

// lab is a user with a store and a registry that stands in for Docker Hub.
type lab struct {
	b      *bench
	home   string
	mirror string // as a VM reaches it
	reg    *images.Registry
}

func (b *bench) newLab() (*lab, error) {
	reg, err := images.Serve(images.RegistryOptions{})
	if err != nil {
		return nil, err
	}
	busybox, err := images.Busybox()
	if err != nil {
		return nil, errors.Join(err, reg.Close())
	}
	if err := reg.Add("library/"+image, busybox); err != nil {
		return nil, errors.Join(err, reg.Close())
	}
	_, port, _ := strings.Cut(reg.Host(), ":")
	l := &lab{b: b, home: filepath.Join(b.dir, "home"), mirror: "http://host.berth.internal:" + port, reg: reg}
	return l, os.MkdirAll(l.home, 0o700)
}

// env is the user's environment, with the machine's if it is given, as `eval $(berth env NAME)` sets it.
func (l *lab) env(machine string) []string {
	store := filepath.Join(l.home, "store")
	env := []string{"HOME=" + l.home, "BERTH_HOME=" + store, "XDG_RUNTIME_DIR=" + l.home, "DOCKER_CONFIG=" + l.home, "TERM=dumb"}
	if machine != "" {
		env = append(env, "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH="+filepath.Join(store, "machines", machine))
	}
	return env
}

func (l *lab) berth(ctx context.Context, args ...string) (string, error) {
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(l.b.bin, "berth"), args...)
	cmd.Env = append(os.Environ(), l.env("")...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("berth %s: %w\n%s", strings.Join(args, " "), err, errOut.Bytes())
	}
	return strings.TrimSpace(out.String()), nil
}

// docker runs the stock client against a machine and waits until it ends.
func (l *lab) docker(ctx context.Context, machine string, args ...string) error {
	url, err := l.berth(ctx, "url", machine)
	if err != nil {
		return err
	}
	env := append(l.env(machine), "DOCKER_HOST="+url)
	_, err = timed(ctx, env, append([]string{"docker"}, args...)...)
	return err
}

// measureVM compares the light VM's life with a bare boot of its kernel by the same QEMU with the same devices.
func measureVM(ctx context.Context, b *bench) (figures []figure, err error) {
	l, err := b.newLab()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.reg.Close()) }()
	create := figure{what: "berth create to the first docker run finished", unit: "s", with: "bare kernel, an init that powers off", target: target{most: 3, ratio: true}}
	ready := figure{what: "berth start to the engine's answer over TLS", unit: "s", with: "kernel to its init", target: target{most: 2, ratio: true}}
	used := figure{what: "memory used in the idle guest", unit: "MiB", target: target{most: 120}}
	for n := range b.boots {
		progress("light VM, round %d of %d", n+1, b.boots)
		r, err := l.round(ctx, fmt.Sprintf("bench%d", n))
		if err != nil {
			return nil, err
		}
		create.ours, create.peer = append(create.ours, seconds(r.created)), append(create.peer, seconds(r.bare.off))
		ready.ours, ready.peer = append(ready.ours, seconds(r.ready)), append(ready.peer, seconds(r.bare.init))
		used.ours = append(used.ours, mebibytes(r.used))
		progress("  created %.1f s, started %.1f s; bare: init %.1f s, off %.1f s; %.0f MiB used",
			seconds(r.created), seconds(r.ready), seconds(r.bare.init), seconds(r.bare.off), mebibytes(r.used))
	}
	return []figure{create, ready, used}, nil
}

// round is what one machine's life took.
type round struct {
	created time.Duration // from `berth create` to the end of the first `docker run`, which pulls its image
	ready   time.Duration // from `berth start` to a ping over TLS
	used    int64         // bytes
	bare    bareBoot
}

func (l *lab) round(ctx context.Context, name string) (r round, err error) {
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		_, rmErr := l.berth(ctx, "rm", "-f", "-y", name)
		err = errors.Join(err, rmErr)
	}()
	began := time.Now()
	if _, err := l.berth(ctx, "create", "-d", "qemu", "--engine-registry-mirror", l.mirror, name); err != nil {
		return r, err
	}
	if err := l.docker(ctx, name, "run", "--rm", image, "true"); err != nil {
		return r, err
	}
	r.created = time.Since(began)
	if err := pause(ctx, settle); err != nil {
		return r, err
	}
	if r.used, err = l.used(ctx, name); err != nil {
		return r, err
	}
	argv, err := qemuLine(name)
	if err != nil {
		return r, err
	}
	url, err := l.berth(ctx, "url", name)
	if err != nil {
		return r, err
	}
	if _, err := l.berth(ctx, "stop", name); err != nil {
		return r, err
	}
	if r.bare, err = l.b.bootBare(ctx, argv); err != nil {
		return r, err
	}
	r.ready, err = l.timeStart(ctx, name, url)
	return r, err
}

// used is the guest's memory that is not available to programs, in bytes.
func (l *lab) used(ctx context.Context, name string) (int64, error) {
	text, err := l.berth(ctx, "ssh", name, "cat", "/proc/meminfo")
	if err != nil {
		return 0, err
	}
	fields := map[string]int64{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) > 1 {
			fields[words[0]], _ = strconv.ParseInt(words[1], 10, 64)
		}
	}
	total, available := fields["MemTotal:"], fields["MemAvailable:"]
	if total == 0 || available == 0 {
		return 0, fmt.Errorf("the guest's /proc/meminfo is not understood:\n%s", text)
	}
	return (total - available) << 10, nil
}

// timeStart starts a machine that is stopped and asks its engine all the time, as somebody who waits for it would.
func (l *lab) timeStart(ctx context.Context, name, url string) (time.Duration, error) {
	client, err := l.engineClient(name)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*patience)
	defer cancel()
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := l.berth(ctx, "start", name)
		done <- err
	}()
	for !answers(ctx, client, strings.Replace(url, "tcp:", "https:", 1)+"/_ping") {
		select {
		case err := <-done:
			if err != nil {
				return 0, err
			}
			done <- nil
		case <-time.After(10 * time.Millisecond):
		}
	}
	took := time.Since(began)
	return took, <-done
}

func answers(ctx context.Context, c *http.Client, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	res, err := c.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// engineClient speaks TLS with the machine's client pair.
func (l *lab) engineClient(name string) (*http.Client, error) {
	dir := filepath.Join(l.home, "store", "machines", name)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	conf := &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}, nil
}
