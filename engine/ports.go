//go:build linux

package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/config"
)

// portsWriter tells the host of a light VM which ports are published: the whole set, each time it has changed and each time
// somebody connects on the host's side.
type portsWriter struct {
	sets  chan []config.Port // the newest one that is not written yet
	again chan struct{}
	file  *os.File
	log   *slog.Logger
}

// writePatience bounds a write to a host that has stopped reading; the next change tries again.
const writePatience = 10 * time.Second

func openPorts(path string, log *slog.Logger) (*portsWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("ports channel: %w", err)
	}
	return &portsWriter{sets: make(chan []config.Port, 1), again: make(chan struct{}, 1), file: f, log: log}, nil
}

// changed hands a set over without waiting. Sets come in order, from one goroutine at a time.
func (w *portsWriter) changed(ports []config.Port) {
	select {
	case <-w.sets: // replaced by a newer one
	default:
	}
	w.sets <- ports
}

// repeat has the set of now written again.
func (w *portsWriter) repeat() {
	select {
	case w.again <- struct{}{}:
	default:
	}
}

// run writes until ctx ends.
func (w *portsWriter) run(ctx context.Context) {
	go w.watch()
	defer w.file.Close()
	context.AfterFunc(ctx, func() { _ = w.file.SetWriteDeadline(time.Now()) })
	current := []config.Port{}
	for {
		select {
		case current = <-w.sets:
		case <-w.again:
		case <-ctx.Done():
			return
		}
		if err := w.write(ctx, current); err != nil && ctx.Err() == nil {
			w.log.Warn("telling the host which ports are published", "error", err)
		}
	}
}

func (w *portsWriter) write(ctx context.Context, ports []config.Port) error {
	if ports == nil {
		ports = []config.Port{}
	}
	line, err := json.Marshal(config.PortSet{Ports: ports})
	if err != nil {
		return err
	}
	_ = w.file.SetWriteDeadline(time.Now().Add(writePatience)) // not all files have deadlines
	if ctx.Err() != nil {                                      // looked at after the deadline is set, which the end of ctx brings forward
		return ctx.Err()
	}
	_, err = w.file.Write(append(line, '\n'))
	return err
}

// watch notices when somebody connects. A virtio port without a peer reads as hung up (poll(2)); the runtime calls back each
// time that the port's readiness changes.
func (w *portsWriter) watch() {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	was := true // what was there at the start is told by the first set
	_ = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, 0)
		is := err == nil && (n == 0 || fds[0].Revents&unix.POLLHUP == 0)
		if is && !was {
			w.repeat()
		}
		was = is
		return false
	})
}
