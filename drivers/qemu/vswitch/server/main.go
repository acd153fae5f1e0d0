// Package server is the virtual switch that package vswitch speaks to: the machines' network (package vnet), their ports on the host,
// their clocks and consoles, for one store.
package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/getberth/berth/drivers/qemu/vnet"
	"github.com/getberth/berth/drivers/qemu/vswitch"
)

// takeover is how long a new switch waits for one that is ending.
const takeover = 10 * time.Second

// Main is the switch's process: it serves until ctx is done or no machine has been attached for a while. args are its flags:
// -dir, the run folder (by default the current one: it may then be moved while it is in use), and -idle, how long it stays without machines. Its standard output is the starter's to read: one line,
// Ready or an error, then it is closed.
func Main(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("virtual switch", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	dir := fs.String("dir", ".", "run folder")
	idle := fs.Duration("idle", time.Minute, "end when no machine has been attached for so long")
	err := fs.Parse(args)
	if err == nil {
		err = run(ctx, *dir, *idle, func(line string) { fmt.Fprintln(os.Stdout, line); os.Stdout.Close() })
	}
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
	}
	return err
}

// run serves dir; ready is called once.
func run(ctx context.Context, dir string, idle time.Duration, ready func(string)) error {
	lock, err := alone(ctx, dir)
	if err != nil {
		return err
	}
	if lock == nil { // another has just been started
		ready(vswitch.Ready)
		return nil
	}
	defer lock.Unlock()
	logFile := &boundedFile{path: filepath.Join(dir, vswitch.LogFile), limit: logLimit}
	defer logFile.Close()
	log := slog.New(slog.NewTextHandler(logFile, nil))
	err = serve(ctx, dir, idle, log, ready)
	if err != nil {
		log.Error("ending", "err", err)
	}
	return err
}

// alone makes this the only switch of dir. The lock is nil when there is one that answers.
func alone(ctx context.Context, dir string) (*flock.Flock, error) {
	ctx, cancel := context.WithTimeout(ctx, takeover)
	defer cancel()
	lock := flock.New(filepath.Join(dir, "switch.lock"), flock.SetPermissions(0o600))
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		ok, err := lock.TryLock()
		if err != nil {
			return nil, fmt.Errorf("locking the run folder %s: %w", dir, err)
		}
		if ok {
			return lock, nil
		}
		if _, err := vswitch.NewClient(dir).Ping(ctx); err == nil {
			return nil, nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("another virtual switch holds %s but does not answer", dir)
		}
	}
}

func serve(ctx context.Context, dir string, idle time.Duration, log *slog.Logger, ready func(string)) error {
	ctx, over := context.WithCancel(ctx)
	defer over()
	n, err := vnet.New(log)
	if err != nil {
		return err
	}
	defer n.Close()
	l, err := listen(filepath.Join(dir, vswitch.Socket))
	if err != nil {
		return err
	}
	h := newHub(dir, log, n, idle, over)
	h.restore(ctx)
	log.Info("serving", "pid", os.Getpid(), "idle", idle)
	srv := &http.Server{Handler: h.routes(), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { srv.Close() })
	go h.tick(ctx)
	ready(vswitch.Ready)
	err = srv.Serve(l)
	h.close()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// listen makes the control socket. It is its user's alone from the first moment, since the folder is.
func listen(path string) (net.Listener, error) {
	os.Remove(path)
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("closing the control socket to others: %w", err)
	}
	return l, nil
}
