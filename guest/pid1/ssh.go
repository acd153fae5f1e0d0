//go:build linux

package pid1

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// SSHCommand is the argument with which init runs itself as the SSH server, in a process of its own.
const SSHCommand = "guest-ssh"

// sshArgs is what the SSH server reads from its standard input.
type sshArgs struct {
	HostKey        string
	AuthorizedKeys []string
	Device         string // the only interface on which connections are taken, so that containers cannot reach the server
}

// sshPort is where the guest's SSH server listens.
const sshPort = "22"

// ServeSSH runs the SSH server with the keys that come on r, and reports that it is ready.
func ServeSSH(ctx context.Context, r io.Reader, serve func(ctx context.Context, l net.Listener, hostKey []byte, authorized []string) error) error {
	var a sshArgs
	if err := json.NewDecoder(io.LimitReader(r, 1<<20)).Decode(&a); err != nil {
		return fmt.Errorf("reading the SSH server's keys: %w", err)
	}
	lc := net.ListenConfig{Control: boundTo(a.Device)}
	l, err := lc.Listen(ctx, "tcp4", net.JoinHostPort("0.0.0.0", sshPort))
	if err != nil {
		return err
	}
	defer l.Close()
	NotifyReady(slog.Default())
	return serve(ctx, l, []byte(a.HostKey), a.AuthorizedKeys)
}

// boundTo ties a listener to one interface: a packet from a container comes in by a bridge and finds nobody listening.
func boundTo(device string) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) }), err)
	}
}
