//go:build linux

package container

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/getberth/berth/engine/logs"
)

func itoa[N ~uint16 | ~int](n N) string { return strconv.FormatInt(int64(n), 10) }

// Logs writes what a container has written.
func (s *Service) Logs(ctx context.Context, ref string, o LogsOptions, open Opener) error {
	c, spec, state, err := s.find(ref)
	if err != nil {
		return err
	}
	if !o.Stdout && !o.Stderr {
		return invalid("Bad parameters: you must choose at least one stream")
	}
	config, err := logConfig(s.cfg, spec.HostConfig.LogConfig, spec, s.logPath(c.id))
	if err != nil {
		return err
	}
	if config.Driver == "none" || config.NoFile {
		return withKind(errdefs.ErrNotImplemented, "%w", logs.ErrUnreadable)
	}
	streams, err := open(spec.Config.Tty)
	if err != nil {
		return err
	}
	q := logs.Query{Tail: o.Tail, Since: o.Since, Until: o.Until, Follow: o.Follow && state.active()}
	if q.Follow {
		done, stop := c.finished(ctx)
		defer stop()
		q.Done = done
	}
	return s.readLog(ctx, config, q, &logWriter{options: o, streams: streams, tty: spec.Config.Tty})
}

func (s *Service) readLog(ctx context.Context, config logs.Config, q logs.Query, w *logWriter) error {
	err := logs.Read(ctx, config, q, w.write)
	if errors.Is(err, context.Canceled) {
		return nil // the client has left
	}
	return err
}

// finished returns a channel that closes when the container rests or goes, restarts not counted.
func (c *instance) finished(ctx context.Context) (done <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	w := &waiter{result: make(chan WaitResult, 1)}
	closed := make(chan struct{})
	c.mu.Lock()
	if !c.state.active() || c.gone {
		w.result <- WaitResult{}
	} else {
		c.waiters = append(c.waiters, w)
	}
	c.mu.Unlock()
	go func() {
		defer close(closed)
		select {
		case <-w.result:
		case <-ctx.Done():
			c.forget(w)
		}
	}()
	return closed, cancel
}

// replay writes the log before an attach goes on with what is new.
func (s *Service) replay(ctx context.Context, spec *Spec, o AttachOptions, streams Streams) error {
	config, err := logConfig(s.cfg, spec.HostConfig.LogConfig, spec, s.logPath(spec.ID))
	if err != nil || config.Driver == "none" || config.NoFile {
		return err
	}
	w := &logWriter{options: LogsOptions{Stdout: o.Stdout, Stderr: o.Stderr}, streams: streams, tty: spec.Config.Tty}
	return s.readLog(ctx, config, logs.Query{Tail: -1}, w)
}

// logWriter sends lines to a client's streams in the form it asked for.
type logWriter struct {
	options LogsOptions
	streams Streams
	tty     bool
}

func (w *logWriter) write(l logs.Line) error {
	to, wanted := w.streams.Stdout, w.options.Stdout
	if l.Stream == logs.Stderr {
		to, wanted = w.streams.Stderr, w.options.Stderr
	}
	if w.tty {
		to, wanted = w.streams.Stdout, w.options.Stdout // a terminal has no second stream
	}
	if !wanted || to == nil {
		return nil
	}
	prefix := w.prefix(l)
	if prefix == "" {
		_, err := to.Write(l.Text)
		return err
	}
	_, err := to.Write(append([]byte(prefix), l.Text...))
	return err
}

func (w *logWriter) prefix(l logs.Line) string {
	var b strings.Builder
	if w.options.Timestamps {
		b.WriteString(l.Time.UTC().Format(timeFormat))
		b.WriteByte(' ')
	}
	if w.options.Details {
		b.WriteString(details(l.Attrs))
		b.WriteByte(' ')
	}
	return b.String()
}

// timeFormat is RFC 3339 with nine digits, so that times line up.
const timeFormat = "2006-01-02T15:04:05.000000000Z07:00"

func details(attrs map[string]string) string {
	parts := make([]string, 0, len(attrs))
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		parts = append(parts, url.QueryEscape(k)+"="+url.QueryEscape(attrs[k]))
	}
	return strings.Join(parts, ",")
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return "0001-01-01T00:00:00Z"
	}
	return t.UTC().Format(time.RFC3339Nano)
}
