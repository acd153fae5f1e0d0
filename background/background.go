// Package background is for the processes that berth leaves behind, such as the virtual switch and the tunnels: how they are started,
// and where their sockets are.
package background

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// MaxSocketPath is the longest path of a unix socket, in bytes, on the system with the least room: 104 with the final zero on
// macOS (sys/un.h), 108 elsewhere.
const MaxSocketPath = 103

// PrivateDir makes a folder that is this user's alone, and refuses one that is not: who owns it could put sockets of his own there.
func PrivateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the folder for sockets: %w", err)
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() || !ownedPrivately(fi) {
		return fmt.Errorf("the folder for sockets, %s, is open to other users: remove it", dir)
	}
	return nil
}

// Start starts a command that survives this process, and waits for the first line of its standard output, which it should then
// close: the word ready, or else why it is not. The context bounds the wait.
func Start(ctx context.Context, cmd *exec.Cmd, ready string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd.Stdout = w
	Detach(cmd)
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	go cmd.Wait() // ends with the process, at the latest with ours
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer stop()
	line, err := bufio.NewReaderSize(r, 4096).ReadString('\n')
	switch line = strings.TrimSpace(line); {
	case line == ready:
		return nil
	case line != "":
		return errors.New(line)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("it ended without a word: %w", err)
}
