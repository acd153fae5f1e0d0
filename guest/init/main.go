//go:build linux

// Command init is process 1 of the light VM and, in a process of its own, the VM's SSH server. It is a program apart from the
// engine, since starting that costs an emulated processor more than a second and its packages' memory.
package main

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/getberth/berth/guest/pid1"
	"github.com/getberth/berth/guest/sshd"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
		os.Exit(1)
	}
}

// run is told apart by the first argument; whatever else the kernel passes on is not for init.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == pid1.SSHCommand {
		return pid1.ServeSSH(ctx, os.Stdin, func(ctx context.Context, l net.Listener, key []byte, authorized []string) error {
			return sshd.Serve(ctx, l, key, authorized)
		})
	}
	return pid1.Main(ctx)
}
