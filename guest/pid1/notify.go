//go:build linux

package pid1

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/getberth/berth/guest/seed"
)

// notifyDir holds a socket for each service, to which it says READY=1 as services of systemd do. Source: sd_notify(3).
const notifyDir = "/run/berth-notify"

// listenReady tells the host each time the service reports that it is ready, and returns the variable that the service needs.
func (i *initd) listenReady(ctx context.Context, service string) (env string, err error) {
	if err := os.MkdirAll(notifyDir, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(notifyDir, service)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { c.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			if strings.Contains("\n"+string(b[:n])+"\n", "\nREADY=1\n") {
				i.report(service)
			}
		}
	}()
	return "NOTIFY_SOCKET=" + path, nil
}

// report tells the host and the console that a service can be used.
func (i *initd) report(service string) {
	i.log.Info("ready", "service", service)
	i.control.send(seed.Event{Event: service})
}

// NotifyReady says to whoever started this process that it is ready; it does nothing where nobody asked.
func NotifyReady(log *slog.Logger) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.Dial("unixgram", path)
	if err != nil {
		log.Warn("reporting readiness", "error", err)
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte("READY=1"))
}
