package tunnel

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/getberth/berth/background"
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
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = serverDir
	if err := background.Start(ctx, cmd, readyWord); err != nil {
		return fmt.Errorf("starting the tunnel to %q: %w", t.name, err)
	}
	return nil
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
