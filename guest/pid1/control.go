//go:build linux

package pid1

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/guest/seed"
)

// control is the channel to the host. A guest whose host offers none works, silently.
type control struct {
	mu    sync.Mutex // guards file and early, and keeps lines whole
	file  *os.File
	early [][]byte // events before the channel was there; a boot has a handful
}

// maxLine bounds a line from the host, in bytes.
const maxLine = 64 << 10

// open connects to the host in the background: nothing of the boot depends on it, and what is sent before is kept.
func (c *control) open(ctx context.Context, log *slog.Logger, h *hotplug) {
	f, err := openPort(ctx, h, seed.ControlPort)
	if err != nil {
		log.Warn("the host offers no control channel", "error", err)
		return
	}
	c.mu.Lock()
	c.file = f
	for _, e := range c.early {
		c.write(e)
	}
	c.early = nil
	c.mu.Unlock()
	c.serve(ctx, log, f)
}

// send tells the host, as far as it listens; a full channel must not hold the boot up.
func (c *control) send(e seed.Event) {
	line, err := json.Marshal(e)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file == nil {
		c.early = append(c.early, line)
		return
	}
	c.write(line)
}

func (c *control) write(line []byte) {
	_ = c.file.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.file.Write(append(line, '\n'))
}

// serve obeys the host's commands. While no one is connected on the host's side reads end at once or wait, depending on the
// kernel, so a read that ends is tried again after a pause.
func (c *control) serve(ctx context.Context, log *slog.Logger, f io.Reader) {
	for ctx.Err() == nil {
		s := bufio.NewScanner(f)
		s.Buffer(make([]byte, 4096), maxLine)
		for s.Scan() {
			c.obey(log, s.Bytes())
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// askPowerOff ends the machine as poweroff(8) does: by a signal to process 1, which this is.
func askPowerOff() { _ = unix.Kill(unix.Getpid(), unix.SIGUSR2) }

// clockTolerance is how far the clock may be off before it is stepped: a host that slept, or an emulator that lags.
const clockTolerance = 100 * time.Millisecond

func (c *control) obey(log *slog.Logger, line []byte) {
	var cmd seed.Command
	if err := json.Unmarshal(line, &cmd); err != nil {
		log.Warn("the host said something that is no command", "error", err)
		return
	}
	if cmd.PowerOff {
		askPowerOff()
	}
	if cmd.Time > 0 {
		if off := time.Since(time.Unix(0, cmd.Time)).Abs(); off > clockTolerance {
			ts := unix.NsecToTimespec(cmd.Time)
			if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
				log.Warn("setting the clock", "error", err)
			}
		}
	}
}
