package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// readyWord is what the process in the background says when the tunnel can be used. Any other word is why it cannot.
const readyWord = "ready"

// startLimit is how long the process may take to listen.
const startLimit = 20 * time.Second

// Ensure sees to it that somebody serves the tunnel: argv starts a process in the background that calls Background.
func (t Tunnel) Ensure(ctx context.Context, argv []string) error {
	if t.answers(ctx) {
		return nil
	}
	if err := start(ctx, argv); err != nil {
		return fmt.Errorf("starting the tunnel to %q: %w", t.name, err)
	}
	return nil
}

// start waits for the process's word on its standard output, which it then closes.
func start(ctx context.Context, argv []string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout = w
	detach(cmd)
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	go cmd.Wait() // ends with the process, at the latest with ours
	defer context.AfterFunc(ctx, func() { r.Close() })()
	line, err := bufio.NewReaderSize(r, 4096).ReadString('\n')
	switch line = strings.TrimSpace(line); {
	case line == readyWord:
		return nil
	case line != "":
		return errors.New(line)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("it ended without a word: %w", err)
}

// Background serves the tunnel in a process that Ensure has started, and tells Ensure by out, which it closes.
func (t Tunnel) Background(ctx context.Context, s Server, out *os.File) error {
	err := t.Serve(ctx, s, func() {
		fmt.Fprintln(out, readyWord)
		out.Close()
	})
	if err != nil {
		fmt.Fprintln(out, strings.Join(strings.Fields(err.Error()), " ")) // lost if it has been closed
	}
	return err
}
