//go:build linux

package sshd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// rig is a server on the loopback and all that a client needs.
type rig struct {
	dir     string
	addr    *net.TCPAddr
	hostKey ssh.PublicKey
	client  ssh.Signer
	home    string
}

func newKey(t testing.TB) (ssh.Signer, []byte) {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

func newRig(t testing.TB) *rig {
	t.Helper()
	host, hostPEM := newKey(t)
	client, clientPEM := newKey(t)
	r := &rig{dir: t.TempDir(), hostKey: host.PublicKey(), client: client, home: t.TempDir()}
	server, err := New(Config{
		HostKey: hostPEM, AuthorizedKeys: []string{string(ssh.MarshalAuthorizedKey(client.PublicKey()))}, Home: r.home,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().(*net.TCPAddr)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	r.write(t, "id", clientPEM)
	r.write(t, "known_hosts", fmt.Appendf(nil, "[127.0.0.1]:%d %s", r.addr.Port, ssh.MarshalAuthorizedKey(r.hostKey)))
	return r
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) { return len(p), nil }

func (r *rig) write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// openssh is a command line of one of OpenSSH's clients.
func (r *rig) openssh(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skip("OpenSSH's client is not installed")
	}
	port := "-p"
	if program != "ssh" {
		port = "-P"
	}
	return exec.Command(path, append([]string{
		"-F", "none", "-i", filepath.Join(r.dir, "id"), "-o", "UserKnownHostsFile=" + filepath.Join(r.dir, "known_hosts"),
		"-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", port, fmt.Sprint(r.addr.Port),
	}, args...)...)
}

func (r *rig) dial(t testing.TB) *ssh.Client {
	t.Helper()
	c, err := ssh.Dial("tcp", r.addr.String(), &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(r.client)}, HostKeyCallback: ssh.FixedHostKey(r.hostKey),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestOpenSSHCommands(t *testing.T) {
	r := newRig(t)
	big := strings.Repeat("0123456789abcdef", 64<<10) // 1 MB
	tests := []struct {
		name   string
		args   []string
		stdin  string
		stdout string
		stderr string
		status int
	}{
		{name: "output", args: []string{"echo out; echo err >&2"}, stdout: "out\n", stderr: "err\n"},
		{name: "status", args: []string{"exit 7"}, status: 7},
		{name: "signal", args: []string{"kill -TERM $$"}, status: 255},
		{name: "no such command", args: []string{"exec no-such-command 2>/dev/null"}, status: 127},
		{name: "input", args: []string{"cat"}, stdin: "some input", stdout: "some input"},
		{name: "much of it", args: []string{"cat"}, stdin: big, stdout: big},
		{name: "half close", args: []string{"cat >/dev/null; echo rest"}, stdin: "x", stdout: "rest\n"},
		{name: "input that nobody reads", args: []string{"exec <&-; echo done"}, stdin: big, stdout: "done\n"},
		{name: "home and user", args: []string{`echo "$USER $HOME"; pwd`}, stdout: "root " + r.home + "\n" + r.home + "\n"},
		{name: "environment", args: []string{"-o", "SetEnv=A=b", `echo $A`}, stdout: "b\n"},
		{name: "connection", args: []string{`set -- $SSH_CONNECTION; echo $3 $4`}, stdout: fmt.Sprintf("127.0.0.1 %d\n", r.addr.Port)},
		{name: "a shell without a terminal", stdin: "echo $0\nexit 3\n", stdout: "-sh\n", status: 3},
		{name: "background job with output elsewhere", args: []string{"sleep 1000 >/dev/null 2>&1 </dev/null & echo $! > pid; kill $!"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var opts, cmd []string
			for _, a := range tt.args {
				if a == "-o" || strings.HasPrefix(a, "SetEnv") {
					opts = append(opts, a)
					continue
				}
				cmd = append(cmd, a)
			}
			c := r.openssh(t, "ssh", append(append(opts, "root@127.0.0.1"), cmd...)...)
			var out, errOut bytes.Buffer
			c.Stdin, c.Stdout, c.Stderr = strings.NewReader(tt.stdin), &out, &errOut
			_ = c.Run()
			if got := c.ProcessState.ExitCode(); got != tt.status || out.String() != tt.stdout || errOut.String() != tt.stderr {
				t.Errorf("status %d, %d bytes of output %.80q, stderr %q; want %d, %d bytes %.80q, %q",
					got, out.Len(), out.String(), errOut.String(), tt.status, len(tt.stdout), tt.stdout, tt.stderr)
			}
		})
	}
}

func TestTerminal(t *testing.T) {
	r := newRig(t)
	out, err := r.openssh(t, "ssh", "-tt", "root@127.0.0.1", `tty; echo $TERM; test "$(tty)" = "$SSH_TTY" && seq 20000`).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\r\n")
	if !strings.HasPrefix(lines[0], "/dev/pts/") || len(lines) != 20003 || lines[20001] != "20000" {
		t.Errorf("%d lines, from %q to %q", len(lines), lines[0], lines[max(0, len(lines)-2)])
	}
}

func TestTerminalSizeModesAndSignals(t *testing.T) {
	r := newRig(t)
	s, err := r.dial(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	if err := s.RequestPty("vt100", 33, 101, ssh.TerminalModes{ssh.ECHO: 0, ssh.VINTR: 7}); err != nil {
		t.Fatal(err)
	}
	script := `trap 'echo int; stty size' INT; trap 'stty size; exit 5' WINCH; stty size; stty -a | grep -o -e '-echo ' -e 'intr = ^G'
echo ready; while :; do read x || :; done`
	if err := s.Start(script); err != nil {
		t.Fatal(err)
	}
	got := readUntil(t, out, "ready")
	if want := "33 101 intr = ^G -echo ready"; strings.Join(strings.Fields(got), " ") != want {
		t.Errorf("got %q, want %q", strings.Fields(got), want)
	}
	_, _ = in.Write([]byte{7})
	readUntil(t, out, "33 101")
	if err := s.WindowChange(40, 120); err != nil {
		t.Fatal(err)
	}
	readUntil(t, out, "40 120")
	var exit *ssh.ExitError
	if err := s.Wait(); !asExit(err, &exit) || exit.ExitStatus() != 5 {
		t.Errorf("the shell ended with %v", err)
	}
}

func asExit(err error, exit **ssh.ExitError) bool {
	e, ok := err.(*ssh.ExitError)
	*exit = e
	return ok
}

func readUntil(t testing.TB, r io.Reader, want string) string {
	t.Helper()
	var got []byte
	buf := make([]byte, 1024)
	for !strings.Contains(string(got), want) {
		n, err := r.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
	}
	return string(got)
}

func TestSignalRequest(t *testing.T) {
	r := newRig(t)
	s, err := r.dial(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, _ := s.StdoutPipe()
	if err := s.Start("echo ready; exec sleep 1000"); err != nil {
		t.Fatal(err)
	}
	readUntil(t, out, "ready")
	if err := s.Signal(ssh.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *ssh.ExitError
	if err := s.Wait(); !asExit(err, &exit) || exit.Signal() != "TERM" {
		t.Errorf("ended with %v, want SIGTERM", err)
	}
}

// TestNothingIsLeft breaks connections in several ways and looks whether what they had started ends.
func TestNothingIsLeft(t *testing.T) {
	for _, tt := range []struct {
		name string
		pty  bool
		end  func(*ssh.Client, *ssh.Session)
	}{
		{"connection broken", false, func(c *ssh.Client, _ *ssh.Session) { c.Close() }},
		{"channel closed", false, func(_ *ssh.Client, s *ssh.Session) { s.Close() }},
		{"terminal, connection broken", true, func(c *ssh.Client, _ *ssh.Session) { c.Close() }},
		{"terminal, channel closed", true, func(_ *ssh.Client, s *ssh.Session) { s.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			c := r.dial(t)
			s, err := c.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			if tt.pty {
				if err := s.RequestPty("vt100", 24, 80, nil); err != nil {
					t.Fatal(err)
				}
			}
			out, _ := s.StdoutPipe()
			if err := s.Start("sleep 1000 & echo pids $$ $! end; wait"); err != nil {
				t.Fatal(err)
			}
			var shell, child int
			line := readUntil(t, out, "end")
			if _, err := fmt.Sscanf(line, "pids %d %d", &shell, &child); err != nil {
				t.Fatal(err)
			}
			tt.end(c, s)
			for _, pid := range []int{shell, child} {
				waitGone(t, pid)
			}
		})
	}
}

// waitGone waits until a process has ended; an orphan may stay a zombie where nobody collects it.
func waitGone(t testing.TB, pid int) {
	t.Helper()
	for range 500 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(20 * time.Millisecond) // processes that are not our children give no event
	}
	t.Errorf("process %d is left", pid)
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

func TestServerEndsDespiteNohup(t *testing.T) {
	var pid int
	t.Run("server", func(t *testing.T) {
		r := newRig(t)
		s, err := r.dial(t).NewSession()
		if err != nil {
			t.Fatal(err)
		}
		out, _ := s.StdoutPipe()
		if err := s.Start("trap '' HUP; echo pid $$ end; exec sleep 1000"); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscanf(readUntil(t, out, "end"), "pid %d", &pid); err != nil {
			t.Fatal(err)
		}
	}) // the rig's cleanup waits for Serve to return
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("a program that ignores SIGHUP has gone: %v", err)
	}
}

func TestFileTransfer(t *testing.T) {
	r := newRig(t)
	data := make([]byte, 3<<20)
	_, _ = rand.Read(data)
	r.write(t, "data", data)
	for _, program := range []string{"scp", "sftp"} {
		t.Run(program, func(t *testing.T) {
			there, back := filepath.Join(r.home, program), filepath.Join(r.dir, program)
			up := r.openssh(t, program, filepath.Join(r.dir, "data"), "root@127.0.0.1:"+program)
			down := r.openssh(t, program, "root@127.0.0.1:"+program, back)
			if program == "sftp" {
				up = r.openssh(t, program, "root@127.0.0.1")
				up.Args = insert(up.Args, "-b", "-")
				up.Stdin = strings.NewReader("put " + filepath.Join(r.dir, "data") + " sftp\nls -l\n")
			}
			for _, c := range []*exec.Cmd{up, down} {
				if out, err := c.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", c, err, out)
				}
			}
			for _, path := range []string{there, back} {
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s: %d bytes, %v", path, len(got), err)
				}
			}
		})
	}
}

func insert(args []string, extra ...string) []string {
	return append(append([]string{args[0]}, extra...), args[1:]...)
}

// echoServer answers each connection with what it reads, and then, when the sender has closed its half, with "bye".
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
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
				_, _ = io.WriteString(conn, "bye")
			}()
		}
	}()
	return ln
}

func checkEcho(t testing.TB, network, address string) {
	t.Helper()
	conn, err := net.Dial(network, address)
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

func TestOpenSSHForwards(t *testing.T) {
	r := newRig(t)
	tcp := echoServer(t, "tcp", "127.0.0.1:0").Addr().String()
	sock := echoServer(t, "unix", filepath.Join(r.dir, "far.sock")).Addr().String()
	at := func(name string) string { return filepath.Join(r.dir, name) }
	c := r.openssh(t, "ssh", "-o", "ExitOnForwardFailure=yes",
		"-L", at("l-tcp")+":"+tcp, "-L", at("l-unix")+":"+sock,
		"-R", at("r-unix")+":"+sock, "-R", at("r-tcp")+":"+tcp,
		"root@127.0.0.1", "echo ready; cat")
	in, _ := c.StdinPipe()
	out, _ := c.StdoutPipe()
	var errOut bytes.Buffer
	c.Stderr = &errOut
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	readUntil(t, out, "ready")
	for _, name := range []string{"l-tcp", "l-unix", "r-unix", "r-tcp"} {
		t.Run(name, func(t *testing.T) { checkEcho(t, "unix", at(name)) })
	}
	in.Close()
	if err := c.Wait(); err != nil {
		t.Errorf("%v: %s", err, errOut.String())
	}
}

func TestRemoteForwardTCP(t *testing.T) {
	r := newRig(t)
	c := r.dial(t)
	ln, err := c.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
		_, _ = io.WriteString(conn, "bye")
	}()
	port := ln.Addr().(*net.TCPAddr).Port
	checkEcho(t, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.2:%d", port)); err == nil {
		conn.Close()
		t.Error("a remote forward listens on more than 127.0.0.1")
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
		conn.Close()
		t.Error("a cancelled forward still listens")
	}
}

func TestForwardRefused(t *testing.T) {
	c := newRig(t).dial(t)
	_, err := c.Dial("unix", "/no/such/socket")
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}

func TestWhoMayEnter(t *testing.T) {
	r := newRig(t)
	stranger, _ := newKey(t)
	for _, tt := range []struct {
		name, user string
		auth       ssh.AuthMethod
	}{
		{"a stranger's key", "root", ssh.PublicKeys(stranger)},
		{"another user", "daemon", ssh.PublicKeys(r.client)},
		{"a password", "root", ssh.Password("")},
		{"nothing", "root", ssh.PublicKeys()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ssh.Dial("tcp", r.addr.String(), &ssh.ClientConfig{
				User: tt.user, Auth: []ssh.AuthMethod{tt.auth}, HostKeyCallback: ssh.FixedHostKey(r.hostKey)})
			if err == nil {
				c.Close()
				t.Error("was let in")
			}
		})
	}
}

func TestHostilePeers(t *testing.T) {
	r := newRig(t)
	// More than may be in their handshake: they must not keep others out for longer than it takes to drop them.
	var idle []net.Conn
	for range maxUnauthenticated - 1 {
		conn, err := net.Dial("tcp", r.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle = append(idle, conn)
	}
	garbage, err := net.Dial("tcp", r.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = garbage.Write(bytes.Repeat([]byte{0xff}, 1<<16))
	_, _ = io.Copy(io.Discard, garbage)
	garbage.Close()
	c := r.dial(t)
	if _, _, err := c.OpenChannel("session-of-another-kind", nil); err == nil {
		t.Error("an unknown channel was opened")
	}
	for _, bad := range [][]byte{nil, {0}, bytes.Repeat([]byte{0xff}, 64)} {
		for _, kind := range []string{"direct-tcpip", "direct-streamlocal@openssh.com"} {
			if _, _, err := c.OpenChannel(kind, bad); err == nil {
				t.Errorf("%s with the payload %x was opened", kind, bad)
			}
		}
		for _, kind := range []string{"tcpip-forward", "streamlocal-forward@openssh.com", "cancel-tcpip-forward", "x"} {
			if ok, _, err := c.SendRequest(kind, true, bad); ok || err != nil {
				t.Errorf("%s with the payload %x: %v, %v", kind, bad, ok, err)
			}
		}
		ch, reqs, err := c.OpenChannel("session", nil)
		if err != nil {
			t.Fatal(err)
		}
		go ssh.DiscardRequests(reqs)
		for _, kind := range []string{"pty-req", "env", "exec", "signal", "window-change", "subsystem", "x"} {
			if ok, err := ch.SendRequest(kind, true, bad); ok || err != nil {
				t.Errorf("%s with the payload %x: %v, %v", kind, bad, ok, err)
			}
		}
		ch.Close()
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := s.Output("echo alive"); string(out) != "alive\n" {
		t.Errorf("after all that: %q, %v", out, err)
	}
	_ = idle
}

func TestSessionsAreBounded(t *testing.T) {
	c := newRig(t).dial(t)
	for n := range maxSessions + 1 {
		ch, reqs, err := c.OpenChannel("session", nil)
		if (err == nil) != (n < maxSessions) {
			t.Fatalf("session %d: %v", n+1, err)
		}
		if err == nil {
			defer ch.Close()
			go ssh.DiscardRequests(reqs)
		}
	}
}

func TestPanicIsContained(t *testing.T) {
	s := &Server{log: slog.New(slog.DiscardHandler)}
	s.guard("test", func() { panic("x") })
}

func TestNewRefuses(t *testing.T) {
	_, hostPEM := newKey(t)
	client, _ := newKey(t)
	key := string(ssh.MarshalAuthorizedKey(client.PublicKey()))
	for name, cfg := range map[string]Config{
		"no host key":       {AuthorizedKeys: []string{key}},
		"a garbled key":     {HostKey: hostPEM, AuthorizedKeys: []string{"ssh-ed25519 AAAA"}},
		"an option":         {HostKey: hostPEM, AuthorizedKeys: []string{`from="10.0.0.1" ` + key}},
		"a garbled hostkey": {HostKey: hostPEM[:40], AuthorizedKeys: []string{key}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseModes(f *testing.F) {
	f.Add("\x35\x00\x00\x00\x01\x00")
	f.Add("\x01\x00")
	f.Fuzz(func(t *testing.T, s string) {
		modes, err := parseModes(s)
		if err == nil && len(modes) > len(s)/5 {
			t.Errorf("%d modes in %d bytes", len(modes), len(s))
		}
	})
}
