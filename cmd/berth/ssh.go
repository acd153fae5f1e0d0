package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/sshutil"
)

func (a *app) sshCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "ssh [NAME] [SSH-OPTIONS] [COMMAND [ARG...]]",
		Short: "Log into or run a command on a machine with SSH",
		Long: `Log into a machine, or run a command on it, and exit with the command's status.
The arguments of the command are joined with spaces and read by the shell on the machine, as ssh does.

Of ssh's options these are understood:
  -L [BIND:]PORT:HOST:PORT   forward a port, or a socket's path, from here to the machine
  -R [BIND:]PORT:HOST:PORT   forward a port from the machine to here
  -D [BIND:]PORT             be a SOCKS proxy that leaves from the machine
  -W HOST:PORT               connect standard input and output to a port
  -N                         run no command
  -t, -T                     ask for a terminal even for a command, or for none
  -l USER                    log in as another user
  -n                         read nothing from standard input
  -o OPTION=VALUE            User, RequestTTY, and what berth does anyway`,
		DisableFlagParsing: true,
		ValidArgsFunction:  a.completeOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && (args[0] == "-h" || args[0] == "--help" || args[0] == "-help") {
				return cmd.Help()
			}
			return a.ssh(cmd, args)
		},
	}
}

func (a *app) ssh(cmd *cobra.Command, args []string) error {
	o, err := parseSSH(args)
	if err != nil {
		return &usageError{err}
	}
	m, err := a.manager(cmd)
	if err != nil {
		return err
	}
	var names []string
	if o.machine != "" {
		names = []string{o.machine}
	}
	name, err := target(m, names)
	if err != nil {
		return err
	}
	for _, note := range o.notes {
		fmt.Fprintln(a.err, note)
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	c, err := m.Dial(ctx, name, o.user)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := startForwards(ctx, c, o); err != nil {
		return err
	}
	return asRemoteStatus(a.session(ctx, c, o))
}

// session is what the user asked the connection to be.
func (a *app) session(ctx context.Context, c *sshutil.Client, o sshOptions) error {
	switch {
	case o.stdio != "":
		return a.connectStdio(ctx, c, o.stdio)
	case o.noCommand:
		select {
		case <-ctx.Done():
			return nil
		case <-c.Done():
			return c.Err()
		}
	}
	var stdin io.Reader = a.in
	if o.noStdin {
		stdin = nil
	}
	if tty := o.wantsTTY(isTerminal(a.in)); tty || o.command == "" {
		return c.Shell(ctx, sshutil.Shell{Cmd: o.command, TTY: tty, Stdin: stdin, Stdout: a.out, Stderr: a.err})
	}
	return c.Run(ctx, o.command, stdin, a.out, a.err)
}

func (a *app) connectStdio(ctx context.Context, c *sshutil.Client, address string) error {
	conn, err := c.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() {
		_, _ = io.Copy(conn, a.in)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	_, err = io.Copy(a.out, conn)
	return err
}

// startForwards listens before the session begins, so that an occupied port is an error and not a surprise.
func startForwards(ctx context.Context, c *sshutil.Client, o sshOptions) error {
	for _, f := range o.local {
		ln, err := (&net.ListenConfig{}).Listen(ctx, f.listen.network, f.listen.address)
		if err != nil {
			return fmt.Errorf("ssh -L %s: %w", f.spec, err)
		}
		go func() { _ = c.ForwardLocal(ctx, ln, f.to.network, f.to.address) }()
	}
	for _, f := range o.dynamic {
		ln, err := (&net.ListenConfig{}).Listen(ctx, f.listen.network, f.listen.address)
		if err != nil {
			return fmt.Errorf("ssh -D %s: %w", f.spec, err)
		}
		go func() { _ = c.ForwardDynamic(ctx, ln) }()
	}
	for _, f := range o.remote {
		if err := startRemote(ctx, c, f); err != nil {
			return fmt.Errorf("ssh -R %s: %w", f.spec, err)
		}
	}
	return nil
}

// startRemote returns once the machine listens.
func startRemote(ctx context.Context, c *sshutil.Client, f forward) error {
	listening, ended := make(chan struct{}), make(chan error, 1)
	dial := func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, f.to.network, f.to.address)
	}
	go func() {
		ended <- c.ForwardRemote(ctx, f.listen.network, f.listen.address, func(net.Addr) { close(listening) }, dial)
	}()
	select {
	case <-listening:
		return nil
	case err := <-ended:
		if err == nil {
			err = errors.New("it ended at once")
		}
		return err
	}
}

// wantsTTY follows ssh: a terminal for a login, none for a command, unless told otherwise. -t needs a terminal here, -tt does not.
func (o sshOptions) wantsTTY(here bool) bool {
	switch {
	case o.noTTY:
		return false
	case o.tty >= 2:
		return true
	case o.tty == 1:
		return here
	}
	return o.command == "" && here
}

// command joins words with spaces, as ssh does: the machine's shell splits them again, so that quoting is the user's business.
func joinCommand(words []string) string { return strings.Join(words, " ") }
