package generic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/sshutil"
)

// Start implements drivers.Driver; the words are docker-machine's.
func (d *Driver) Start(context.Context, *drivers.Host) error {
	return errors.New("generic driver does not support start")
}

// Stop implements drivers.Driver.
func (d *Driver) Stop(context.Context, *drivers.Host) error {
	return errors.New("generic driver does not support stop")
}

// Kill implements drivers.Killer.
func (d *Driver) Kill(context.Context, *drivers.Host) error {
	return errors.New("generic driver does not support kill")
}

// answerLimit is how long a host may take to accept a connection.
const answerLimit = 10 * time.Second

// State implements drivers.Driver: a host whose SSH port answers runs. Who answers is not looked at, unless there is a jump host.
func (d *Driver) State(ctx context.Context, h *drivers.Host) (drivers.State, error) {
	s, err := load(h)
	switch {
	case errors.Is(err, errNotAdopted), errors.Is(err, errLetGo):
		return drivers.NotFound, nil
	case err != nil:
		return drivers.Error, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	e := d.login(h, s)
	var conn net.Conn
	if e.Jump != nil {
		conn, err = sshutil.DialVia(ctx, *e.Jump, "tcp", e.Addr())
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", e.Addr())
	}
	if err == nil {
		return drivers.Running, conn.Close()
	}
	var jump *sshutil.JumpError
	if errors.As(err, &jump) && jump.Addr == "" {
		return drivers.None, err // nothing is known of the host behind it
	}
	return drivers.Stopped, nil
}

// login is ssh with the key in the machine's folder.
func (d *Driver) login(h *drivers.Host, s state) sshutil.Endpoint {
	var key *userKey
	if s.KeyFile != "" {
		key = &userKey{path: filepath.Join(h.Dir, s.KeyFile)}
	}
	return d.ssh(s, key)
}

// Bounds of a restart.
const (
	rebootLimit = 10 * time.Minute // servers with much memory take long to start
	rebootPause = 2 * time.Second
)

// statusNotRoot is the exit status of the script below when there is no way to root.
const statusNotRoot = 77

// reboot restarts the host a moment later, so that the command itself can end in order.
const reboot = `sh -c 'if [ "$(id -u)" -eq 0 ]; then as=; elif sudo -n true 2>/dev/null; then as="sudo -n"; ` +
	`elif doas -n true 2>/dev/null; then as="doas -n"; else exit 77; fi; ` +
	`cat /proc/sys/kernel/random/boot_id; ` +
	`(sleep 1; $as shutdown -r now || $as reboot) </dev/null >/dev/null 2>&1 &'`

// Restart implements drivers.Restarter: it reboots the host and waits until it lets us in again.
func (d *Driver) Restart(ctx context.Context, h *drivers.Host) error {
	s, err := load(h)
	if err != nil {
		return err
	}
	e := d.login(h, s)
	before, err := bootID(ctx, e, reboot)
	var exit *sshutil.ExitError
	if errors.As(err, &exit) && exit.Status == statusNotRoot {
		return fmt.Errorf("rebooting %s: the user %s is not root there, and neither sudo nor doas works without a password", s.Address, s.SSHUser)
	}
	if err != nil {
		return fmt.Errorf("rebooting %s: %w", s.Address, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, rebootLimit, fmt.Errorf("%s is not back %s after its reboot began", s.Address, rebootLimit))
	defer cancel()
	for {
		now, err := bootID(ctx, e, "cat /proc/sys/kernel/random/boot_id")
		if err == nil && now != before {
			return nil
		}
		if err != nil {
			fmt.Fprintf(h.Out, "%s: %v\n", h.Name, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(rebootPause):
		}
	}
}

// bootID runs a command that prints the name of the host's present boot.
func bootID(ctx context.Context, e sshutil.Endpoint, cmd string) (string, error) {
	c, err := sshutil.Dial(ctx, e)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var out strings.Builder
	err = c.Run(ctx, cmd, nil, io.MultiWriter(&out), nil)
	return strings.TrimSpace(out.String()), err
}
