package sshutil_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/getberth/berth/sshutil"
)

func TestDialErrors(t *testing.T) {
	s := guestServer(t)
	closed := listen(t)
	closed.Close()
	hangUp := listen(t)
	go func() {
		for {
			conn, err := hangUp.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	other, stranger := newKey(t), newKey(t)
	at := func(addr net.Addr) func(*sshutil.Endpoint) {
		return func(e *sshutil.Endpoint) { e.Port = addr.(*net.TCPAddr).Port }
	}
	tests := []struct {
		name   string
		change func(*sshutil.Endpoint)
		kind   error
		say    string
	}{
		{"nobody listens", at(closed.Addr()), sshutil.Refused, "refused"},
		{"nobody answers", func(e *sshutil.Endpoint) { at(silence(t, nil))(e); e.Timeout = 200 * time.Millisecond }, sshutil.TimedOut, "200ms"},
		{"half a handshake", func(e *sshutil.Endpoint) {
			at(silence(t, []byte("SSH-2.0-x\r\n")))(e)
			e.Timeout = 200 * time.Millisecond
		}, sshutil.TimedOut, "200ms"},
		{"a web server", at(silence(t, append([]byte("HTTP/1.1 400 Bad Request\r\n"), make([]byte, 1<<20)...))), sshutil.NotSSH, "HTTP/1.1 400"},
		{"garbage without an end", at(silence(t, bytes.Repeat([]byte{'x'}, 1<<20))), sshutil.NotSSH, `"xxx`},
		{"endless lines", at(silence(t, bytes.Repeat([]byte("hello\n"), 1<<18))), sshutil.NotSSH, "hello"},
		{"hangs up", at(hangUp.Addr()), sshutil.Closed, "without a word"},
		{"no such name", func(e *sshutil.Endpoint) { e.Host = "no-such-host.invalid" }, sshutil.NoSuchHost, "no-such-host.invalid"},
		{"another host key", func(e *sshutil.Endpoint) { e.HostKeys = []string{other.Public} }, sshutil.HostKeyMismatch, "intercepts"},
		{"another kind of host key", func(e *sshutil.Endpoint) { e.HostKeys = []string{ecdsaKey(t)} }, sshutil.HostKeyMismatch, "ssh-ed25519"},
		{"a stranger", func(e *sshutil.Endpoint) {
			e.KeyPaths = []string{writeFile(t, t.TempDir(), "stranger", stranger.Private)}
		},
			sshutil.AuthFailed, "publickey, with "},
		{"another user", func(e *sshutil.Endpoint) { e.User = "daemon" }, sshutil.AuthFailed, "daemon@"},
		{"no key", func(e *sshutil.Endpoint) { e.KeyPaths = nil }, sshutil.AuthFailed, "no key to offer"},
		{"a key that is not there", func(e *sshutil.Endpoint) { e.KeyPaths = []string{"/no/such/key"} }, sshutil.AuthFailed, "/no/such/key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := s.endpoint
			tt.change(&e)
			c, err := sshutil.Dial(t.Context(), e)
			if err == nil {
				c.Close()
				t.Fatal("connected")
			}
			if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.say) {
				t.Errorf("got %v; want the kind %q and the words %q", err, tt.kind, tt.say)
			}
		})
	}
}

func ecdsaKey(t testing.TB) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return sshutil.AuthorizedKey(pub, "")
}

func TestDialRefusesWithoutPinnedKey(t *testing.T) {
	e := guestServer(t).endpoint
	e.HostKeys = nil
	if _, err := sshutil.Dial(t.Context(), e); err == nil || !strings.Contains(err.Error(), "not pinned") {
		t.Errorf("got %v", err)
	}
}

func TestDialInterrupted(t *testing.T) {
	e := guestServer(t).endpoint
	e.Port = silence(t, []byte("SSH-2.0-x\r\n")).Port
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := sshutil.Dial(ctx, e); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestNothingSecretBeforeTheHostKey has an impostor listen to what is sent before the host key is refused.
func TestNothingSecretBeforeTheHostKey(t *testing.T) {
	_, hostKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(hostKey)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 10)
	conf := &ssh.ServerConfig{
		PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
			asked <- "a public key"
			return nil, errors.New("no")
		},
		NoClientAuthCallback: func(c ssh.ConnMetadata) (*ssh.Permissions, error) {
			asked <- "user " + c.User()
			return nil, errors.New("no")
		},
		NoClientAuth: true,
	}
	conf.AddHostKey(signer)
	ln := listen(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		_, _, _, _ = ssh.NewServerConn(conn, conf)
		conn.Close()
	}()
	e := guestServer(t).endpoint
	e.Port = ln.Addr().(*net.TCPAddr).Port
	if _, err := sshutil.Dial(t.Context(), e); !errors.Is(err, sshutil.HostKeyMismatch) {
		t.Errorf("got %v", err)
	}
	<-ended
	select {
	case what := <-asked:
		t.Errorf("the impostor was sent %s", what)
	default:
	}
}

func TestEndlessBanner(t *testing.T) {
	host, user := newKey(t), newKey(t)
	signer, err := ssh.ParsePrivateKey(host.Private)
	if err != nil {
		t.Fatal(err)
	}
	conf := &ssh.ServerConfig{NoClientAuth: true, NoClientAuthCallback: func(ssh.ConnMetadata) (*ssh.Permissions, error) {
		return nil, &ssh.BannerError{Err: errors.New("go on"), Message: strings.Repeat("x", 200<<10)}
	}, PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
		return nil, &ssh.BannerError{Err: errors.New("go on"), Message: strings.Repeat("x", 200<<10)}
	}}
	conf.AddHostKey(signer)
	ln := listen(t)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _, _, _ = ssh.NewServerConn(conn, conf); conn.Close() }()
		}
	}()
	e := endpoint(t, ln.Addr(), host, user)
	for range 6 {
		e.KeyPaths = append(e.KeyPaths, writeFile(t, t.TempDir(), "id", newKey(t).Private))
	}
	var banner bytes.Buffer
	e.Banner = &banner
	if _, err := sshutil.Dial(t.Context(), e); err == nil {
		t.Error("connected")
	} else if !errors.Is(err, sshutil.NotSSH) {
		t.Errorf("got %v", err)
	}
	if banner.Len() == 0 || banner.Len() > 1<<20 {
		t.Errorf("%d bytes of banner were shown", banner.Len())
	}
}

func TestEncryptedKey(t *testing.T) {
	s := guestServer(t)
	path := s.endpoint.KeyPaths[0]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := ssh.ParseRawPrivateKey(data)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(raw, "", []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sshutil.Dial(t.Context(), s.endpoint); !errors.Is(err, sshutil.AuthFailed) || !strings.Contains(err.Error(), "has a passphrase") {
		t.Errorf("got %v", err)
	}
	s.endpoint.Passphrase = func(string) ([]byte, error) { return []byte("open sesame"), nil }
	s.dial(t)
}

func TestAgent(t *testing.T) {
	s := guestServer(t)
	data, err := os.ReadFile(s.endpoint.KeyPaths[0])
	if err != nil {
		t.Fatal(err)
	}
	raw, err := ssh.ParseRawPrivateKey(data)
	if err != nil {
		t.Fatal(err)
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: raw}); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "ba")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", dir+"/agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keys, conn); conn.Close() }()
		}
	}()
	s.endpoint.KeyPaths, s.endpoint.Agent = nil, true
	t.Setenv("SSH_AUTH_SOCK", dir+"/agent")
	s.dial(t)
	t.Setenv("SSH_AUTH_SOCK", dir+"/gone")
	if _, err := sshutil.Dial(t.Context(), s.endpoint); !errors.Is(err, sshutil.AuthFailed) || !strings.Contains(err.Error(), "agent: ") {
		t.Errorf("with an agent that has gone: %v", err)
	}
}

func TestDeadPeerIsNoticed(t *testing.T) {
	s := guestServer(t)
	dead := make(chan struct{})
	s.endpoint.Keepalive = 50 * time.Millisecond
	s.endpoint.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return line{conn, dead}, err
	}
	c := s.dial(t)
	result := make(chan error, 1)
	go func() { result <- c.Run(context.Background(), "sleep 1000", nil, nil, nil) }()
	if _, err := c.Output(t.Context(), "true"); err != nil {
		t.Fatal(err)
	}
	close(dead)
	if err := <-result; !errors.Is(err, sshutil.ErrLost) || !strings.Contains(err.Error(), "sign of life") {
		t.Errorf("a command on a dead machine: %v", err)
	}
	<-c.Done()
	if err := c.Err(); !errors.Is(err, sshutil.ErrLost) {
		t.Errorf("Err: %v", err)
	}
	if err := c.Run(t.Context(), "true", nil, nil, nil); !errors.Is(err, sshutil.ErrLost) {
		t.Errorf("a command after that: %v", err)
	}
}

func TestWaitReady(t *testing.T) {
	s := guestServer(t)
	t.Run("comes up late", func(t *testing.T) {
		front := listen(t)
		addr := front.Addr().(*net.TCPAddr)
		front.Close()
		e := s.endpoint
		e.Port = addr.Port
		var reports []error
		up := make(chan struct{})
		go func() {
			<-up
			ln, err := net.Listen("tcp", addr.String())
			if err != nil {
				return
			}
			defer ln.Close()
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", s.endpoint.Addr())
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(far, near); far.Close() }()
			_, _ = io.Copy(near, far)
			near.Close()
		}()
		c, err := sshutil.WaitReady(t.Context(), e, sshutil.Wait{Report: func(err error) {
			if reports = append(reports, err); len(reports) == 1 {
				close(up)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if !errors.Is(reports[0], sshutil.Refused) {
			t.Errorf("reported %v", reports)
		}
	})
	t.Run("final answers", func(t *testing.T) {
		e := s.endpoint
		e.HostKeys = []string{newKey(t).Public}
		if _, err := sshutil.WaitReady(t.Context(), e, sshutil.Wait{}); !errors.Is(err, sshutil.HostKeyMismatch) {
			t.Errorf("got %v", err)
		}
		e = s.endpoint
		e.KeyPaths = []string{writeFile(t, t.TempDir(), "stranger", newKey(t).Private)}
		if _, err := sshutil.WaitReady(t.Context(), e, sshutil.Wait{Auth: 200 * time.Millisecond}); !errors.Is(err, sshutil.AuthFailed) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("never", func(t *testing.T) {
		ln := listen(t)
		ln.Close()
		e := s.endpoint
		e.Port = ln.Addr().(*net.TCPAddr).Port
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := sshutil.WaitReady(ctx, e, sshutil.Wait{}); !errors.Is(err, sshutil.Refused) {
			t.Errorf("the end of patience hides the reason: %v", err)
		}
	})
}

func TestScanHostKey(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		e := s.endpoint
		e.HostKeys, e.KeyPaths = nil, nil
		key, err := sshutil.ScanHostKey(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		s.endpoint.HostKeys = []string{key}
		s.dial(t)
	})
	e := sshutil.Endpoint{Host: "127.0.0.1", Port: silence(t, []byte("220 mail ESMTP\r\n"+strings.Repeat("x", 300))).Port}
	if _, err := sshutil.ScanHostKey(t.Context(), e); !errors.Is(err, sshutil.NotSSH) {
		t.Errorf("got %v", err)
	}
}

func TestKnownHostKeys(t *testing.T) {
	a, b := newKey(t), newKey(t)
	file := writeFile(t, t.TempDir(), "known_hosts", []byte("web1,10.0.0.1 "+a.Public+"\n[web1]:2222 "+b.Public+"\n"))
	for _, tt := range []struct {
		host string
		port int
		want string
	}{{"web1", 0, a.Public}, {"10.0.0.1", 22, a.Public}, {"web1", 2222, b.Public}, {"web2", 22, ""}} {
		keys, err := sshutil.KnownHostKeys(tt.host, tt.port, file, "/no/such/file")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(keys, "\n"); !strings.HasPrefix(tt.want, got) || tt.want != "" && got == "" {
			t.Errorf("%s:%d: got %q, want %q", tt.host, tt.port, got, tt.want)
		}
	}
	if _, err := sshutil.KnownHostKeys("web1", 22, writeFile(t, t.TempDir(), "broken", []byte("web1 ssh-ed25519 AAAA\n"))); err == nil {
		t.Error("a broken file was read")
	}
}
