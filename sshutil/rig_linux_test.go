package sshutil_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/getberth/berth/guest/sshd"
	"github.com/getberth/berth/sshutil"
)

// server is a real SSH server on the loopback.
type server struct {
	endpoint sshutil.Endpoint
	home     string
	openssh  bool
}

func newKey(t testing.TB) sshutil.Key {
	t.Helper()
	k, err := sshutil.NewKey("test key")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func writeFile(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// eachServer runs a test against the light VM's server and against OpenSSH's.
func eachServer(t *testing.T, test func(t *testing.T, s server)) {
	t.Run("guest", func(t *testing.T) { test(t, guestServer(t)) })
	t.Run("openssh", func(t *testing.T) { test(t, opensshServer(t)) })
}

func guestServer(t testing.TB) server {
	t.Helper()
	host, user := newKey(t), newKey(t)
	home := t.TempDir()
	srv, err := sshd.New(sshd.Config{HostKey: host.Private, AuthorizedKeys: []string{user.Public}, Home: home})
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-done })
	return server{endpoint: endpoint(t, ln.Addr(), host, user), home: home}
}

func endpoint(t testing.TB, addr net.Addr, host, user sshutil.Key) sshutil.Endpoint {
	t.Helper()
	return sshutil.Endpoint{
		Host: "127.0.0.1", Port: addr.(*net.TCPAddr).Port, HostKeys: []string{host.Public},
		KeyPaths: []string{writeFile(t, t.TempDir(), "id", user.Private)},
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func opensshServer(t testing.TB) server {
	t.Helper()
	const binary = "/usr/sbin/sshd"
	if _, err := os.Stat(binary); err != nil {
		t.Skip("OpenSSH's server is not installed")
	}
	if os.Geteuid() != 0 {
		t.Skip("OpenSSH's server is tested as root")
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where it separates privileges
		t.Fatal(err)
	}
	host, user := newKey(t), newKey(t)
	dir := t.TempDir()
	ln := listen(t)
	addr := ln.Addr()
	ln.Close()
	// SHLVL keeps bash from reading root's .bashrc, which may be slow.
	conf := fmt.Sprintf(`ListenAddress %s
HostKey %s
AuthorizedKeysFile %s
StrictModes no
PidFile none
PermitRootLogin prohibit-password
UsePAM no
LogLevel QUIET
SetEnv SHLVL=2
Subsystem sftp internal-sftp
`, addr, writeFile(t, dir, "host", host.Private), writeFile(t, dir, "authorized", []byte(user.Public+"\n")))
	cmd := exec.Command(binary, "-D", "-e", "-f", writeFile(t, dir, "conf", []byte(conf)))
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() && log.Len() > 0 {
			t.Logf("sshd: %s", log.String())
		}
	})
	s := server{endpoint: endpoint(t, addr, host, user), home: dir, openssh: true}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := sshutil.WaitReady(ctx, s.endpoint, sshutil.Wait{})
	if err != nil {
		t.Fatalf("%v: %s", err, log.String())
	}
	c.Close()
	return s
}

func (s server) dial(t testing.TB) *sshutil.Client {
	t.Helper()
	c, err := sshutil.Dial(t.Context(), s.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// echoServer answers with what it reads, and then, when the sender has closed its half, with "bye".
func echoServer(t testing.TB, network, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, address)
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
			go echo(conn)
		}
	}()
	return ln
}

func echo(conn net.Conn) {
	defer conn.Close()
	_, _ = io.Copy(conn, conn)
	_, _ = io.WriteString(conn, "bye")
}

func checkEcho(t testing.TB, conn net.Conn, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "hello ")
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello bye" {
		t.Errorf("got %q, %v", got, err)
	}
}

// silence is a network peer that accepts and never says a word after what it is told to say first.
func silence(t testing.TB, first []byte) *net.TCPAddr {
	t.Helper()
	ln := listen(t)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go func() { _, _ = conn.Write(first) }()
		}
	}()
	return ln.Addr().(*net.TCPAddr)
}

// line is a TCP connection to a server through which nothing passes any more once it is dead, as when the power is lost.
type line struct {
	net.Conn
	dead chan struct{}
}

func (l line) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	select {
	case <-l.dead:
		if err == nil {
			return l.Read(p) // drop it
		}
	default:
	}
	return n, err
}
