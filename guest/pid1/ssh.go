//go:build linux

package pid1

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/guest/seed"
)

// sshProgram is command guest/sshd/cmd/sshd in the root.
const sshProgram = "/usr/lib/berth/sshd"

// sshPort is where the guest's SSH server listens.
const sshPort = "22"

// startSSH listens, and has the SSH server started when somebody comes: a machine whose user speaks to its engine only does without.
func (i *initd) startSSH(ctx context.Context) error {
	lc := net.ListenConfig{Control: boundTo(nic)}
	l, err := lc.Listen(ctx, "tcp4", net.JoinHostPort("0.0.0.0", sshPort))
	if err != nil {
		return err
	}
	socket, err := l.(*net.TCPListener).File()
	l.Close()
	if err != nil {
		return err
	}
	keys, err := json.Marshal(seed.Seed{HostKey: i.seed.HostKey, AuthorizedKeys: i.seed.AuthorizedKeys})
	if err != nil {
		return err
	}
	log, err := openLog("/var/log/sshd.log")
	if err != nil {
		return err
	}
	i.children.keep(service{name: "ssh", log: log, end: unix.SIGTERM, wanted: called(socket), command: func() (*exec.Cmd, error) {
		cmd := exec.Command(sshProgram)
		cmd.Stdin, cmd.ExtraFiles = bytes.NewReader(keys), []*os.File{socket}
		return cmd, nil
	}})
	i.report("ssh")
	return nil
}

// boundTo ties a listener to one interface: a packet from a container comes in by a bridge and finds nobody listening.
func boundTo(device string) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) }), err)
	}
}

// called returns a function that waits for a connection to a listening socket, leaving it to be accepted by another process.
func called(socket *os.File) func() error {
	return func() error {
		c, err := socket.SyscallConn()
		if err != nil {
			return err
		}
		var failed error
		err = c.Read(func(fd uintptr) bool {
			ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			if err != nil && !errors.Is(err, unix.EINTR) {
				failed = fmt.Errorf("waiting for a connection: %w", err)
				return true
			}
			return ready > 0
		})
		return errors.Join(err, failed)
	}
}
