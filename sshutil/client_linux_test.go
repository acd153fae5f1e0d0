package sshutil_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"

	"github.com/getberth/berth/sshutil"
)

func TestRun(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 128<<10) // 2 MB
	eachServer(t, func(t *testing.T, s server) {
		c := s.dial(t)
		for _, tt := range []struct {
			name, cmd, stdin, stdout, stderr string
			status                           int
		}{
			{name: "output", cmd: "echo out; echo err >&2", stdout: "out\n", stderr: "err\n"},
			{name: "status", cmd: "echo why >&2; exit 3", stderr: "why\n", status: 3},
			{name: "signal", cmd: "kill -KILL $$", status: 137},
			{name: "much input and output", cmd: "cat", stdin: big, stdout: big},
			{name: "input that nobody reads", cmd: "exec <&-; echo done", stdin: big, stdout: "done\n"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				var out, errOut bytes.Buffer
				err := c.Run(t.Context(), tt.cmd, strings.NewReader(tt.stdin), &out, &errOut)
				status := 0
				var exit *sshutil.ExitError
				if errors.As(err, &exit) {
					status = exit.ExitStatus()
					if !strings.Contains(err.Error(), strings.TrimSpace(tt.stderr)) {
						t.Errorf("the error does not say what the command said: %v", err)
					}
				} else if err != nil {
					t.Fatal(err)
				}
				if status != tt.status || out.String() != tt.stdout || errOut.String() != tt.stderr {
					t.Errorf("status %d, output %.60q, stderr %q", status, out.String(), errOut.String())
				}
			})
		}
	})
}

func TestStdio(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		c := s.dial(t)
		conn, err := c.Stdio(t.Context(), "cat; echo end")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "hello\n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "hello\nend\n" {
			t.Errorf("got %q, %v", got, err)
		}
		failing, err := c.Stdio(t.Context(), "echo no way >&2; exit 3")
		if err != nil {
			t.Fatal(err)
		}
		defer failing.Close()
		var exit *sshutil.ExitError
		if _, err := io.ReadAll(failing); !errors.As(err, &exit) || exit.Status != 3 || !strings.Contains(exit.Stderr, "no way") {
			t.Errorf("a command that fails: %v", err)
		}
	})
}

func TestRunInterrupted(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		c := s.dial(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		// The input never comes, and never ends: it must not hold anything up.
		never, w := io.Pipe()
		defer w.Close()
		out := writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
		pidFile := filepath.Join(s.home, "pid")
		err := c.Run(ctx, "echo $$ > "+pidFile+"; echo ready; exec sleep 1000", never, out, nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		var pid int
		data, err := os.ReadFile(pidFile)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Sscan(string(data), &pid)
		if s.openssh {
			// OpenSSH passes no signals on to what root has started.
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		waitGone(t, pid)
		if out, err := c.Output(t.Context(), "echo still there"); string(out) != "still there\n" {
			t.Errorf("the connection did not survive: %q, %v", out, err)
		}
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

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

func TestRunWithReaderGone(t *testing.T) {
	c := guestServer(t).dial(t)
	gone := errors.New("the reader has gone")
	err := c.Run(t.Context(), "yes", nil, writerFunc(func([]byte) (int, error) { return 0, gone }), nil)
	if !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

func TestClientClosed(t *testing.T) {
	c := guestServer(t).dial(t)
	result := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		result <- c.Run(context.Background(), "echo x; sleep 1000", nil, writerFunc(func(p []byte) (int, error) { close(ready); return len(p), nil }), nil)
	}()
	<-ready
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-result; !errors.Is(err, sshutil.ErrLost) {
		t.Errorf("a command on a closed connection: %v", err)
	}
	<-c.Done()
	if err := c.Err(); err != nil {
		t.Errorf("Err after Close: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// TestLostBeforeASession has the connection end when a session is asked for.
func TestLostBeforeASession(t *testing.T) {
	l := listen(t)
	host, user := newKey(t), newKey(t)
	key, err := ssh.ParsePrivateKey(host.Private)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true, PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(key)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conn, channels, requests, err := ssh.NewServerConn(c, config)
			if err != nil {
				continue
			}
			go ssh.DiscardRequests(requests)
			<-channels
			conn.Close()
		}
	}()
	for range 20 { // which of its parts notices first differs
		c, err := sshutil.Dial(t.Context(), endpoint(t, l.Addr(), host, user))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Run(t.Context(), "true", nil, nil, nil); !errors.Is(err, sshutil.ErrLost) {
			t.Errorf("a command: %v", err)
		}
		c.Close()
	}
}

func TestFiles(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		c := s.dial(t)
		for name, data := range map[string][]byte{
			"plain": []byte("hello"), "empty": nil, "it's a \"strange\" $name \\ ü": {0, 1, 2, 255}, "-dash": []byte("x"), "new\nline": []byte("y"),
		} {
			path := filepath.Join(s.home, name)
			if err := os.WriteFile(path, []byte("older and longer content"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := c.WriteFile(t.Context(), path, data, 0o640); err != nil {
				t.Errorf("%q: %v", name, err)
				continue
			}
			got, err := c.ReadFile(t.Context(), path)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%q: read %q, %v", name, got, err)
			}
			if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o640 {
				t.Errorf("%q: mode %v, %v", name, fi.Mode(), err)
			}
		}
		if _, err := c.ReadFile(t.Context(), "/no/such/file"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("reading what is not there: %v", err)
		}
		if err := c.WriteFile(t.Context(), "/no/such/dir/file", nil, 0o600); err == nil || !strings.Contains(err.Error(), "writing /no/such/dir/file: ") {
			t.Errorf("writing where no folder is: %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(s.home, ".berth.*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
}

// TestWriteFileIsAtomic breaks the connection in the middle of writing.
func TestWriteFileIsAtomic(t *testing.T) {
	s := guestServer(t)
	path := filepath.Join(s.home, "file")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte("new"), 4<<20)
	for n := range 10 {
		e := s.endpoint
		e.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return &breaking{Conn: conn, left: 8<<10 + n*(1<<20)}, err
		}
		c, err := sshutil.Dial(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.WriteFile(t.Context(), path, big, 0o600); !errors.Is(err, sshutil.ErrLost) {
			t.Errorf("broken after %d MB: %v", n, err)
		}
		c.Close()
		if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
			t.Fatalf("broken after %d MB: the file holds %d bytes, %v", n, len(got), err)
		}
	}
}

// breaking is a connection that breaks after some bytes were written.
type breaking struct {
	net.Conn
	left   int
	before func() // called before it breaks
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		if b.before != nil {
			b.before()
			b.before = nil
		}
		b.Close()
	}
	return b.Conn.Write(p)
}

func TestUpload(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		data := make([]byte, 3<<20)
		_, _ = rand.Read(data)
		path := filepath.Join(s.home, "it's here")
		e := s.endpoint
		e.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return &breaking{Conn: conn, left: 2 << 20, before: func() { waitForPart(t, s.home) }}, err
		}
		c, err := sshutil.Dial(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Upload(t.Context(), path, bytes.NewReader(data), int64(len(data)), 0o755, nil); !errors.Is(err, sshutil.ErrLost) {
			t.Errorf("got %v", err)
		}
		c.Close()
		first := int64(-1)
		err = s.dial(t).Upload(t.Context(), path, bytes.NewReader(data), int64(len(data)), 0o755, func(done int64) {
			if first < 0 {
				first = done
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if first < 1<<20 {
			t.Errorf("began anew: first progress at %d bytes", first)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Errorf("arrived: %d bytes, %v", len(got), err)
		}
		if left, _ := filepath.Glob(filepath.Join(s.home, "*.part-*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
}

// waitForPart waits until what was sent before the connection broke is written.
func waitForPart(t testing.TB, dir string) {
	t.Helper()
	for range 500 {
		if parts, _ := filepath.Glob(filepath.Join(dir, "*.part-*")); len(parts) == 1 {
			if fi, err := os.Stat(parts[0]); err == nil && fi.Size() > 1<<20 {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("nothing of the upload is there")
}

func TestSFTP(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		f, err := s.dial(t).SFTP(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Mkdir(filepath.Join(s.home, "dir")); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(s.home, "dir")); err != nil {
			t.Error(err)
		}
	})
}

func TestForwards(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		dir, err := os.MkdirTemp("", "bf")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		tcp := echoServer(t, "tcp", "127.0.0.1:0").Addr().String()
		sock := echoServer(t, "unix", filepath.Join(dir, "far")).Addr().String()
		c := s.dial(t)
		for network, address := range map[string]string{"tcp": tcp, "unix": sock} {
			t.Run("dial "+network, func(t *testing.T) {
				conn, err := c.DialContext(t.Context(), network, address)
				checkEcho(t, conn, err)
			})
			t.Run("local "+network, func(t *testing.T) {
				ln := listen(t)
				stop := background(t, func(ctx context.Context) error { return c.ForwardLocal(ctx, ln, network, address) })
				conn, err := net.Dial("tcp", ln.Addr().String())
				checkEcho(t, conn, err)
				stop()
			})
			t.Run("remote "+network, func(t *testing.T) {
				at := map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(dir, "near")}[network]
				bound := make(chan net.Addr, 1)
				stop := background(t, func(ctx context.Context) error {
					return c.ForwardRemote(ctx, network, at, func(a net.Addr) { bound <- a }, func(context.Context) (net.Conn, error) { return net.Dial("tcp", tcp) })
				})
				addr := at
				if a := <-bound; network == "tcp" {
					addr = a.String()
				}
				conn, err := net.Dial(network, addr)
				checkEcho(t, conn, err)
				stop()
			})
		}
		t.Run("dynamic", func(t *testing.T) {
			ln := listen(t)
			stop := background(t, func(ctx context.Context) error { return c.ForwardDynamic(ctx, ln) })
			conn, err := socksDial(ln.Addr().String(), tcp)
			checkEcho(t, conn, err)
			stop()
		})
		t.Run("nobody there", func(t *testing.T) {
			_, err := c.DialContext(t.Context(), "unix", filepath.Join(dir, "none"))
			if err == nil || errors.Is(err, sshutil.ErrLost) {
				t.Errorf("got %v", err)
			}
		})
	})
}

// background runs a forward; stop ends it and checks that it ended well.
func background(t *testing.T, f func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the forward ended with %v", err)
		}
	}
}

// socksDial connects through a SOCKS5 proxy, by name.
func socksDial(proxy, address string) (net.Conn, error) {
	conn, err := net.Dial("tcp", proxy)
	if err != nil {
		return nil, err
	}
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	_, _ = conn.Write([]byte{5, 1, 0})
	name := "localhost"
	req := append([]byte{5, 1, 0, 3, byte(len(name))}, name...)
	_, _ = conn.Write(binary.BigEndian.AppendUint16(req, uint16(a.Port)))
	answer := make([]byte, 12)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, err
	}
	if answer[1] != 0 || answer[3] != 0 {
		return nil, fmt.Errorf("the proxy answers % x", answer)
	}
	return conn, nil
}

// TestServerThatForwardsNothing: that it cannot is another matter than a socket which is not there.
func TestServerThatForwardsNothing(t *testing.T) {
	host, user := newKey(t), newKey(t)
	signer, err := ssh.ParsePrivateKey(host.Private)
	if err != nil {
		t.Fatal(err)
	}
	conf := &ssh.ServerConfig{NoClientAuth: true}
	conf.AddHostKey(signer)
	ln := listen(t)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		_, channels, requests, err := ssh.NewServerConn(conn, conf)
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
		for c := range channels {
			_ = c.Reject(ssh.UnknownChannelType, "")
		}
	}()
	c := server{endpoint: endpoint(t, ln.Addr(), host, user)}.dial(t)
	if _, err := c.DialContext(t.Context(), "unix", "/no/such/socket"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	_, err = guestServer(t).dial(t).DialContext(t.Context(), "unix", "/no/such/socket")
	if err == nil || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a socket that is not there: %v", err)
	}
}

func TestForwardEndsWithTheConnection(t *testing.T) {
	s := guestServer(t)
	c := s.dial(t)
	far := echoServer(t, "tcp", "127.0.0.1:0").Addr().String()
	ln := listen(t)
	done := make(chan error, 1)
	go func() { done <- c.ForwardLocal(context.Background(), ln, "tcp", far) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "x")
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := <-done; err != nil {
		t.Errorf("after Close: %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the forwarded connection lives on")
	}
}

// TestShell sits at a real terminal: a pty of this machine stands for the user's window.
func TestShell(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		window, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer window.Close()
		defer tty.Close()
		if err := pty.Setsize(window, &pty.Winsize{Rows: 31, Cols: 99}); err != nil {
			t.Fatal(err)
		}
		c := s.dial(t)
		result := make(chan error, 1)
		go func() {
			result <- c.Shell(t.Context(), sshutil.Shell{
				Cmd: "exec " + sshutil.Quote("sh", "-c", `stty size; trap 'stty size' WINCH; trap 'echo int; exit 5' INT; echo ready; while :; do read x; done`),
				TTY: true, Stdin: tty, Stdout: tty, Stderr: tty,
			})
		}()
		if got := readUntil(t, window, "ready"); !strings.Contains(got, "31 99") {
			t.Errorf("the terminal's size: %q", got)
		}
		if err := pty.Setsize(window, &pty.Winsize{Rows: 40, Cols: 120}); err != nil {
			t.Fatal(err)
		}
		// The window is no controlling terminal of this process, so that the kernel does not tell it.
		if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
			t.Fatal(err)
		}
		readUntil(t, window, "40 120")
		_, _ = window.Write([]byte{3}) // Ctrl-C goes to the machine
		readUntil(t, window, "int")
		var exit *sshutil.ExitError
		if err := <-result; !errors.As(err, &exit) || exit.ExitStatus() != 5 {
			t.Errorf("ended with %v", err)
		}
	})
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

func TestShellWithoutTerminal(t *testing.T) {
	c := guestServer(t).dial(t)
	var out bytes.Buffer
	err := c.Shell(t.Context(), sshutil.Shell{Stdin: strings.NewReader("echo $A $0\nexit 4\n"), Stdout: &out, Env: map[string]string{"A": "b"}})
	var exit *sshutil.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 4 || out.String() != "b -sh\n" {
		t.Errorf("output %q, %v", out.String(), err)
	}
}

// TestThroughAnotherMachine reaches one machine by way of another.
func TestThroughAnotherMachine(t *testing.T) {
	jump := guestServer(t).dial(t)
	s := guestServer(t)
	s.endpoint.DialContext = jump.DialContext
	if out, err := s.dial(t).Output(t.Context(), "pwd"); err != nil || strings.TrimSpace(string(out)) != s.home {
		t.Errorf("got %q, %v", out, err)
	}
	s.endpoint.Port = 1
	if _, err := sshutil.Dial(t.Context(), s.endpoint); !errors.Is(err, sshutil.Refused) {
		t.Errorf("a port where nobody listens: %v", err)
	}
}
