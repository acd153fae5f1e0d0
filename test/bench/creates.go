//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/getberth/berth/test/dosim"
)

const (
	together = 20               // creates at once
	bootTime = 20 * time.Second // of a droplet, from its request to its being active
	sshPort  = 2222
)

// measureCreates counts the requests of creates at once in a simulated DigitalOcean, whose limits are those of the real one. Behind the
// droplets there is an SSH server and nothing to provision: after their last request, the creates end in an error.
func measureCreates(ctx context.Context, b *bench) (figures []figure, err error) {
	progress("berth create of %d droplets at once", together)
	shells := &shells{running: map[int]net.Listener{}}
	cloud, err := dosim.Start(ctx, dosim.Options{Machines: shells, ActiveAfter: bootTime})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cloud.Close(), shells.close()) }()
	args := []string{"create", "-d", "digitalocean", "--digitalocean-ssh-port", strconv.Itoa(sshPort)}
	for i := range together {
		args = append(args, fmt.Sprintf("web%d", i+1))
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "berth"), args...)
	cmd.Env = append(os.Environ(), "BERTH_HOME="+filepath.Join(b.dir, "creates"), "DIGITALOCEAN_API_URL="+cloud.URL, "DIGITALOCEAN_ACCESS_TOKEN="+cloud.Token)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if n := bytes.Count(out, []byte("Detecting the system")); n != together {
		return nil, fmt.Errorf("berth create: %d machines of %d came as far as SSH: %w\n%s", n, together, err, out)
	}
	calls := cloud.Calls()
	refused := 0
	for _, c := range calls {
		if c.Status == http.StatusTooManyRequests {
			refused++
		}
	}
	progress("  %d requests in %.0f s", len(calls), time.Since(began).Seconds())
	what := fmt.Sprintf("berth create of %d droplets at once: ", together)
	return []figure{
		{what: what + "requests over the limit", unit: "requests", ours: []float64{float64(refused)}, target: target{none: true}},
		{what: what + "requests for each", unit: "requests", ours: []float64{float64(len(calls)) / together}},
	}, nil
}

// shells are droplets that consist of an SSH server, which knows one command: it tells from where it is called.
type shells struct {
	mu      sync.Mutex // guards running
	running map[int]net.Listener
}

var _ dosim.Machines = (*shells)(nil)

// Public implements dosim.Machines: addresses of the loopback.
func (s *shells) Public() netip.Prefix { return netip.MustParsePrefix("127.77.0.0/16") }

// Start implements dosim.Machines.
func (s *shells) Start(_ context.Context, m dosim.Machine) (<-chan struct{}, error) {
	key, err := injectedKey(m.Metadata)
	if err != nil {
		return nil, err
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(key)
	l, err := net.Listen("tcp4", netip.AddrPortFrom(m.Public.Address, sshPort).String())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.running[m.ID] = l
	s.mu.Unlock()
	off := make(chan struct{})
	go func() {
		defer close(off)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveShell(c, config)
		}
	}()
	return off, nil
}

// injectedKey is the host key in the user-data that berth makes.
func injectedKey(metadata http.Handler) (ssh.Signer, error) {
	w := httptest.NewRecorder()
	metadata.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metadata/v1/user-data", nil))
	text, _ := strings.CutPrefix(w.Body.String(), "#cloud-config\n")
	var data struct {
		Keys map[string]string `json:"ssh_keys"`
	}
	if err := json.Unmarshal([]byte(text), &data); err != nil {
		return nil, fmt.Errorf("the user-data: %w", err)
	}
	return ssh.ParsePrivateKey([]byte(data.Keys["ed25519_private"]))
}

// serveShell serves one connection to its end.
func serveShell(c net.Conn, config *ssh.ServerConfig) {
	defer c.Close()
	conn, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	defer conn.Close()
	go ssh.DiscardRequests(requests)
	for fresh := range channels {
		ch, asked, err := fresh.Accept()
		if err != nil {
			return
		}
		go serveCommand(ch, asked)
	}
}

func serveCommand(ch ssh.Channel, asked <-chan *ssh.Request) {
	defer ch.Close()
	for r := range asked {
		_ = r.Reply(r.Type == "exec", nil)
		if r.Type != "exec" {
			continue
		}
		status := uint32(127) // no such command
		if bytes.Contains(r.Payload, []byte("SSH_CONNECTION")) {
			status = 0
			_, _ = io.WriteString(ch, "127.0.0.1 1 127.0.0.1 22\n")
		}
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
		return
	}
}

// Remove implements dosim.Machines.
func (s *shells) Remove(id int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.running[id]; l != nil {
		delete(s.running, id)
		return l.Close()
	}
	return nil
}

func (s *shells) close() error {
	var errs []error
	for id := range s.running {
		errs = append(errs, s.Remove(id))
	}
	return errors.Join(errs...)
}

// What no create asks for.
var errNotHere = errors.New("these droplets only run")

func (s *shells) Shutdown(context.Context, int) error                     { return errNotHere }
func (s *shells) PowerOff(int) error                                      { return errNotHere }
func (s *shells) Reset(int) error                                         { return errNotHere }
func (s *shells) ResetSSH(netip.Addr, time.Duration) error                { return errNotHere }
func (s *shells) Protect([]dosim.Policy, map[netip.Addr]netip.Addr) error { return nil }
