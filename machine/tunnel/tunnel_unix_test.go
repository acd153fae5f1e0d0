//go:build unix

package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/getberth/berth/background"
)

// served is a tunnel that is served until the test ends. ended yields what Serve returned.
func served(t *testing.T, tun Tunnel, s Server) (ended func() error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = tun.Serve(ctx, s, func() { close(ready) })
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-ready:
	case <-done:
		t.Fatal(err)
	}
	return func() error { <-done; return err }, cancel
}

func wanted() bool { return true }

// echo is an engine that says back what it hears, until the client has said all.
func echo(context.Context) (net.Conn, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		defer ln.Close()
		if conn, err := ln.Accept(); err == nil {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}
	}()
	return net.Dial("tcp", ln.Addr().String())
}

func dial(t *testing.T, tun Tunnel) *net.UnixConn {
	t.Helper()
	conn, err := tun.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.UnixConn)
}

func TestStreamsAndHalfClose(t *testing.T) {
	var opened atomic.Int32
	tun := For(t.TempDir(), "web1")
	served(t, tun, Server{Wanted: wanted, Open: func(ctx context.Context) (net.Conn, error) { opened.Add(1); return echo(ctx) }})
	if !tun.answers(t.Context()) {
		t.Error("nobody answers")
	}
	for i := range 3 {
		conn := dial(t, tun)
		fmt.Fprintf(conn, "line %d", i)
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if want := fmt.Sprintf("line %d", i); err != nil || string(got) != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	if n := opened.Load(); n != 3 {
		t.Errorf("%d streams were opened for 3 clients and one that said nothing", n)
	}
	if fi, err := os.Stat(tun.socket()); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", fi.Mode(), err)
	}
}

func TestReasonIsTheEnginesAnswer(t *testing.T) {
	tun := For(t.TempDir(), "web1")
	served(t, tun, Server{Wanted: wanted, Open: func(context.Context) (net.Conn, error) { return nil, errors.New(`no "way"`) }})
	for method, want := range map[string]string{"GET": `{"message":"no \"way\""}`, "HEAD": ""} {
		conn := dial(t, tun)
		req, err := http.NewRequest(method, "http://engine/_ping", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := req.Write(conn); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusServiceUnavailable || string(body) != want || err != nil {
			t.Errorf("%s: %s %q, %v", method, res.Status, body, err)
		}
	}
	conn := dial(t, tun)
	fmt.Fprint(conn, "nonsense\r\n\r\n")
	if got, _ := io.ReadAll(conn); len(got) != 0 {
		t.Errorf("nonsense is answered with %q", got)
	}
}

func TestOnlyOneServes(t *testing.T) {
	tun := For(t.TempDir(), "web1")
	ended, stop := served(t, tun, Server{Wanted: wanted, Open: echo})
	called := false
	if err := tun.Serve(t.Context(), Server{}, func() { called = true }); err != nil || !called {
		t.Errorf("a second one: %v, ready %v", err, called)
	}
	stop()
	if err := ended(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(tun.folder()); err != nil || len(left) != 0 {
		t.Errorf("what stays: %v, %v", left, err)
	}
	// A socket that was left by a process which was killed is replaced.
	if err := os.WriteFile(tun.socket(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	served(t, tun, Server{Wanted: wanted, Open: echo})
	if !tun.answers(t.Context()) {
		t.Error("nobody answers")
	}
}

func TestForgottenEnds(t *testing.T) {
	var gone atomic.Bool
	tun := For(t.TempDir(), "web1")
	ended, _ := served(t, tun, Server{Wanted: func() bool { return !gone.Load() }, Open: echo})
	tun.Forget(t.Context()) // looks, and stays
	conn := dial(t, tun)
	fmt.Fprint(conn, "x")
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	gone.Store(true)
	tun.Forget(t.Context())
	if err := ended(); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a client's connection outlives the tunnel")
	}
}

func TestLongPathsAndOpenFolders(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	store := filepath.Join(t.TempDir(), strings.Repeat("x", 90))
	if got := For(store, "web1").socket(); len(got) > background.MaxSocketPath && len(os.TempDir()) < 60 || strings.HasPrefix(got, store) {
		t.Errorf("the socket of a long path: %s", got)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := For(dir, "web1").Serve(t.Context(), Server{}, func() {}); err == nil || !strings.Contains(err.Error(), "open to other users") {
		t.Errorf("an open folder: %v", err)
	}
}

// TestStart: what the process in the background says is what Ensure returns.
func TestStart(t *testing.T) {
	tun := For(t.TempDir(), "web1")
	for script, want := range map[string]string{
		"echo ready; exec >&-; sleep 0": "", "echo it is too cold": "it is too cold", "exit 3": "without a word",
	} {
		err := tun.Ensure(t.Context(), []string{"/bin/sh", "-c", script})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", script, err, want)
		}
	}
}
