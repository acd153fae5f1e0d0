//go:build linux

package engine

import (
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/getberth/berth/engine/config"
)

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "docker.sock")
	c := config.Config{Hosts: []string{"unix://" + path}, Group: strconv.Itoa(os.Getgid())}
	quiet := slog.New(slog.DiscardHandler)
	first, err := listen(c, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(first)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := listen(c, quiet); err == nil || !strings.Contains(err.Error(), "another process listens") {
		t.Errorf("a second engine: %v", err)
	}
	// What a killed engine leaves.
	first[0].(*net.UnixListener).SetUnlinkOnClose(false)
	closeAll(first)
	again, err := listen(c, quiet)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	closeAll(again)
	c.Group = "no-such-group"
	if _, err := listen(c, quiet); err == nil || !strings.Contains(err.Error(), "no-such-group") {
		t.Errorf("got %v", err)
	}
	c.Group = ""
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(c, quiet); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the way: %v", err)
	}
}

func TestOneOccupiedAddressOpensNone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	path := filepath.Join(t.TempDir(), "docker.sock")
	c := config.Config{Hosts: []string{"unix://" + path, "tcp://" + l.Addr().String()}}
	if _, err := listen(c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is left")
	}
}

func TestTwoEnginesDoNotShareARoot(t *testing.T) {
	c := config.Config{DataRoot: t.TempDir(), ExecRoot: t.TempDir(), PIDFile: filepath.Join(t.TempDir(), "run", "pid")}
	lock, err := claim(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim(c); err == nil || !strings.Contains(err.Error(), "in use by another berthd") {
		t.Errorf("got %v", err)
	}
	if data, _ := os.ReadFile(c.PIDFile); strings.TrimSpace(string(data)) != strconv.Itoa(os.Getpid()) {
		t.Errorf("pidfile: %q", data)
	}
	release(c, lock)
	if _, err := os.Stat(c.PIDFile); err == nil {
		t.Error("the pidfile is left")
	}
	if err := os.WriteFile(c.PIDFile, []byte("999999999\n"), 0o600); err != nil { // of an engine that was killed
		t.Fatal(err)
	}
	lock, err = claim(c)
	if err != nil {
		t.Fatal(err)
	}
	release(c, lock)
}

func TestIPv4IsNotIPv6(t *testing.T) {
	l, err := listenOn(config.Listener{Network: "tcp", Address: "0.0.0.0:0"}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !strings.HasPrefix(l.Addr().String(), "0.0.0.0:") {
		t.Errorf("listens on %s", l.Addr())
	}
}
