//go:build linux

package engine

import (
	"bufio"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/config"
)

// A pipe stands in for the virtio port.
func TestPortsAreTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	host, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	w, err := openPorts(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(ctx)
	}()
	lines := bufio.NewScanner(host)
	next := func() string {
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
		return lines.Text()
	}
	w.repeat()
	if got := next(); got != `{"ports":[]}` {
		t.Errorf("got %s", got)
	}
	w.changed([]config.Port{{Proto: "tcp", IP: "0.0.0.0", Port: 80}})
	const one = `{"ports":[{"proto":"tcp","ip":"0.0.0.0","port":80}]}`
	if got := next(); got != one {
		t.Errorf("got %s", got)
	}
	w.repeat()
	if got := next(); got != one {
		t.Errorf("got %s", got)
	}
	w.changed(nil)
	if got := next(); got != `{"ports":[]}` {
		t.Errorf("got %s", got)
	}
	cancel()
	<-done
}

// A host that reads nothing must not hold the network up.
func TestPortsNeverBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	host, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	w, err := openPorts(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(ctx)
	}()
	many := make([]config.Port, 2000)
	for range 10 {
		w.changed(many)
	}
	cancel()
	<-done
}

func TestPortsChannelMustBeThere(t *testing.T) {
	if _, err := openPorts(filepath.Join(t.TempDir(), "none"), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "ports channel") {
		t.Errorf("got %v", err)
	}
}
