//go:build linux

// Command host boots one of the systems that berth is tested on, and says how to reach it, until Ctrl-C.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/getberth/berth/sshutil"
	"github.com/getberth/berth/test/hosts/system"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	runtime.LockOSThread() // the host ends with the thread that started it
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "host:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var names []string
	for _, s := range system.Systems() {
		names = append(names, s.Name)
	}
	if len(args) != 1 || !slices.Contains(names, args[0]) {
		return fmt.Errorf("usage: host %s", strings.Join(names, "|"))
	}
	s := system.Systems()[slices.Index(names, args[0])]
	files, err := s.Image(ctx, os.Stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "berth-host")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	key, err := sshutil.NewKey("host")
	if err != nil {
		return err
	}
	keyFile := filepath.Join(dir, "key")
	if err := os.WriteFile(keyFile, key.Private, 0o600); err != nil {
		return err
	}
	m, err := s.Boot(ctx, files, dir, key.Public)
	if err != nil {
		return err
	}
	defer m.Close()
	fmt.Printf("ssh -i %[1]s -p %[2]d -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null %[3]s@%[4]s\n"+
		"berth create -d generic --generic-ip-address %[4]s --generic-ssh-port %[2]d --generic-ssh-user %[3]s --generic-ssh-key %[1]s --accept-new-host-key NAME\n"+
		"console: %[5]s\n", keyFile, m.SSHPort, s.User, m.Address, filepath.Join(dir, "console.log"))
	select {
	case <-ctx.Done():
		return nil
	case <-m.Ended():
		return fmt.Errorf("the host is off; it said:\n%s", m.Console())
	}
}
