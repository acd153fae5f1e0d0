package sshutil

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// sizePoll is how often the window is looked at: Windows tells a console's size only to whoever reads its input records.
const sizePoll = 250 * time.Millisecond

// watchSize calls changed whenever the window's size may have changed, until the context is done.
func watchSize(ctx context.Context, changed func()) {
	tick := time.NewTicker(sizePoll)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			changed()
		case <-ctx.Done():
			return
		}
	}
}

// enableEscapes has the console understand escape sequences, and returns what undoes it.
func enableEscapes(f *os.File) func() {
	h := windows.Handle(f.Fd())
	var mode uint32
	if windows.GetConsoleMode(h, &mode) != nil {
		return nil
	}
	if windows.SetConsoleMode(h, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING|windows.DISABLE_NEWLINE_AUTO_RETURN) != nil {
		return nil
	}
	return func() { _ = windows.SetConsoleMode(h, mode) }
}
