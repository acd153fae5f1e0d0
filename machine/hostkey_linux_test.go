package machine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/sshutil"
)

type silent struct{ t *testing.T }

func (s silent) Step(_, name string) func(error) {
	return func(err error) { s.t.Logf("%s: %v", name, err) }
}
func (s silent) Note(_, text string) { s.t.Log(text) }

// keyRig is a machine of which only an OpenSSH server is real, which shows the injected host key.
type keyRig struct {
	*work
	dir string // of its host keys
}

func newKeyRig(t *testing.T) *keyRig {
	t.Helper()
	const binary = "/usr/sbin/sshd"
	if _, err := os.Stat(binary); err != nil {
		t.Skip("OpenSSH's server is not installed")
	}
	if os.Geteuid() != 0 {
		t.Skip("OpenSSH's server is tested as root")
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	m := &Manager{Store: hostdb.New(t.TempDir()), Report: silent{t}, Debug: io.Discard, Now: time.Now, Program: "berth",
		Drivers: new(drivers.Registry), HostKeys: HostKeys{Dir: dir, Reload: fmt.Sprintf("kill -HUP $(cat %s/pid)", dir)}}
	l, err := m.Store.Lock(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Unlock)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	rec := &hostdb.Machine{Name: "web1", Driver: "fake", Phase: hostdb.Provisioning, Endpoint: &hostdb.Endpoint{Address: "127.0.0.1", SSHHost: "127.0.0.1", SSHPort: port, SSHUser: "root"}}
	if err := l.Create(rec); err != nil {
		t.Fatal(err)
	}
	w, err := m.work(l, rec, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.exposed, rec.Endpoint.HostKey = true, w.host.Keys.HostPublic
	if err := l.Put(rec); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ssh_host_ed25519_key", string(w.host.Keys.HostPrivate))
	write("ssh_host_ed25519_key.pub", w.host.Keys.HostPublic+"\n")
	write("authorized", w.host.Keys.ClientPublic+"\n")
	write("conf", fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey %[2]s/ssh_host_ed25519_key\nAuthorizedKeysFile %[2]s/authorized\nPidFile %[2]s/pid\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nSetEnv SHLVL=2\n", port, dir))
	cmd := exec.Command(binary, "-D", "-e", "-f", filepath.Join(dir, "conf"))
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return &keyRig{work: w, dir: dir}
}

// dial connects as any later command would: by the record alone.
func (r *keyRig) dial(t *testing.T) *sshutil.Client {
	t.Helper()
	rec, err := r.m.Store.Get("web1")
	if err != nil {
		t.Fatal(err)
	}
	ep, err := r.m.SSHEndpoint(rec)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := sshutil.WaitReady(ctx, ep, sshutil.Wait{HostKey: 5 * time.Second})
	if err != nil {
		t.Fatalf("a machine whose record says %v: %v", rec.HostKeys, err)
	}
	return c
}

// TestInjectedHostKeyIsReplaced cuts the replacement off between any two of its steps: the record lets us in each time, and the next
// provisioning ends with a key that was made on the machine.
func TestInjectedHostKeyIsReplaced(t *testing.T) {
	old := "ssh_host_ed25519_key"
	for name, cut := range map[string]func(r *keyRig, sh func(string)){
		"not at all":             func(*keyRig, func(string)) {},
		"after the key was made": func(r *keyRig, sh func(string)) { sh(r.script(newKeyScript)) },
		"between the two renames": func(r *keyRig, sh func(string)) {
			sh(r.script(newKeyScript))
			sh("mv " + old + ".berth.pub " + old + ".pub")
		},
		"with half a new key": func(r *keyRig, sh func(string)) { sh("echo x > " + old + ".berth") },
		"before the server reads it": func(r *keyRig, sh func(string)) {
			sh(r.script(newKeyScript))
			r.pinMade()
			sh(fmt.Sprintf(useKeyScript, r.dir, "false"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newKeyRig(t)
			injected := r.host.Keys.HostPublic
			cut(r, func(script string) {
				if out, err := exec.Command("sh", "-c", "cd "+r.dir+" && "+script).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", script, err, out)
				}
			})
			conn := r.ownHostKey(t.Context(), r.dial(t))
			conn.Close()
			if len(r.rec.HostKeys) != 1 || strings.Contains(r.rec.HostKeys[0], strings.Fields(injected)[1]) || r.rec.Endpoint.HostKey != "" {
				t.Fatalf("pinned are %v and %q", r.rec.HostKeys, r.rec.Endpoint.HostKey)
			}
			r.dial(t).Close()
			left, _ := filepath.Glob(filepath.Join(r.dir, "*.berth*"))
			if len(left) > 0 {
				t.Errorf("left are %v", left)
			}
		})
	}
}

// pinMade records what the machine has made, as is done before it is used.
func (r *keyRig) pinMade() {
	made, err := os.ReadFile(filepath.Join(r.dir, "ssh_host_ed25519_key.berth.pub"))
	if err == nil {
		err = r.pin(append([]string{strings.TrimSpace(string(made))}, r.pinned()...))
	}
	if err != nil {
		panic(err)
	}
}

func (r *keyRig) script(s string) string {
	return fmt.Sprintf("("+s+")", r.dir, strings.Fields(r.host.Keys.HostPublic)[1])
}

// TestHostKeyStaysWhenItCannotBeReplaced: no ssh-keygen, a server that does not read its keys again.
func TestHostKeyStaysWhenItCannotBeReplaced(t *testing.T) {
	r := newKeyRig(t)
	r.m.HostKeys.Dir = filepath.Join(r.dir, "nosuch")
	conn := r.ownHostKey(t.Context(), r.dial(t))
	if _, err := conn.Output(t.Context(), "true"); err != nil {
		t.Error(err)
	}
	conn.Close()
	r.dial(t).Close()
}
