//go:build linux

// Command sshd is the light VM's SSH server. Process 1 starts it at the first connection, with the listening socket as file 3 and
// the keys, those of a seed.Seed, on standard input: they are not for argv, the environment or a file.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/getberth/berth/guest/seed"
	"github.com/getberth/berth/guest/sshd"
)

func main() {
	if err := run(context.Background(), os.Stdin, os.NewFile(3, "listener")); err != nil {
		fmt.Fprintln(os.Stderr, "sshd:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, keys io.Reader, socket *os.File) error {
	var s seed.Seed
	if err := json.NewDecoder(io.LimitReader(keys, seed.MaxSize)).Decode(&s); err != nil {
		return fmt.Errorf("reading the keys: %w", err)
	}
	l, err := net.FileListener(socket)
	if err != nil {
		return fmt.Errorf("the listening socket: %w", err)
	}
	defer l.Close()
	socket.Close()
	return sshd.Serve(ctx, l, []byte(s.HostKey), s.AuthorizedKeys)
}
