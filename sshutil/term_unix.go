//go:build !windows

package sshutil

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// watchSize calls changed whenever the window's size may have changed, until the context is done.
func watchSize(ctx context.Context, changed func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGWINCH)
	defer signal.Stop(ch)
	for {
		select {
		case <-ch:
			changed()
		case <-ctx.Done():
			return
		}
	}
}

// enableEscapes does nothing: terminals here always understand escape sequences.
func enableEscapes(*os.File) func() { return nil }
