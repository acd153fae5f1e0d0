package sshutil

import (
	"context"
	"errors"
	"time"
)

// Bounds of the pause between attempts. A light VM is ready within seconds, and TCP connections are cheap; a cloud VM takes a minute.
const (
	minPause = 50 * time.Millisecond
	maxPause = 2 * time.Second
)

// firstTimeout is of the first attempts: while a machine boots, packets vanish without an answer, and an attempt that began then
// only costs time. An emulated processor needs a second for a handshake.
const firstTimeout = 4 * time.Second

// Wait bounds the patience with answers that are final for a machine that runs, but may pass while a cloud image boots: sshd can
// start before the host's keys or the authorized keys are in place. Zero means no patience.
type Wait struct {
	HostKey time.Duration // with another host key
	Auth    time.Duration // with refused keys
	// Report is told why a machine is not ready yet, each reason once in a row.
	Report func(err error)
}

// WaitReady dials until the machine lets us in, the context is done, or the answer is final. The error of a context's end names
// the last reason.
func WaitReady(ctx context.Context, e Endpoint, w Wait) (*Client, error) {
	var last Kind
	since := time.Now() // when the present kind of error began
	attempt := e
	attempt.Timeout = min(firstTimeout, e.timeout())
	for pause := minPause; ; pause = min(pause*3/2, maxPause) {
		c, err := Dial(ctx, attempt)
		if err == nil {
			return c, nil
		}
		kind := kindOf(err)
		if kind == TimedOut {
			attempt.Timeout = min(attempt.Timeout*2, e.timeout())
		}
		if kind != last {
			last, since = kind, time.Now()
			if w.Report != nil && ctx.Err() == nil {
				w.Report(err)
			}
		}
		if ctx.Err() != nil || time.Since(since) > w.patience(kind) || !sleep(ctx, pause) {
			return nil, err
		}
	}
}

// forever is longer than any context's life.
const forever = 1 << 62

func (w Wait) patience(k Kind) time.Duration {
	switch k {
	case Refused, TimedOut, Unreachable, NoSuchHost, Closed:
		return forever
	case HostKeyMismatch:
		return w.HostKey
	case AuthFailed:
		return w.Auth
	case NotSSH, Other:
		return 0
	}
	return 0
}

func kindOf(err error) Kind {
	if errors.Is(err, Refused) {
		return Refused // also by a jump host that cannot reach it yet
	}
	var d *DialError
	if errors.As(err, &d) {
		return d.Kind
	}
	return Other
}

// sleep tells whether it lasted.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
