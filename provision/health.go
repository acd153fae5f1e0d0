package provision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/getberth/berth/engine/config"
)

const defaultHealthTimeout = time.Minute

// Bounds of the pause between two questions to an engine that is starting.
const (
	minPause = 50 * time.Millisecond
	maxPause = 300 * time.Millisecond
)

// healthy waits until the engine answers on its socket. It counts as unchanged: it only looks.
func (r *run) healthy(ctx context.Context) (bool, error) {
	dial, ok := r.host.(Dialer)
	if r.dry || !ok || r.facts.Via != "" {
		// Starting the service waited for the engine (Type=notify); a machine's owner pings it over TLS in any case.
		return true, nil
	}
	timeout := r.healthTimeout()
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := awaitPing(waiting, dial)
	if err == nil || errors.Is(err, errors.ErrUnsupported) {
		return true, nil
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return false, r.withLog(ctx, fmt.Errorf("the engine does not answer on %s within %s: %w", config.Socket, timeout, err))
}

func (r *run) healthTimeout() time.Duration {
	if r.spec.HealthTimeout > 0 {
		return r.spec.HealthTimeout
	}
	return defaultHealthTimeout
}

// awaitPing asks until there is an answer, or none to be had, and returns the last error when the context ends before.
func awaitPing(ctx context.Context, d Dialer) error {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", config.Socket)
		},
		DisableKeepAlives: true,
	}}
	var last error // the reason that the engine gave, rather than the end of our patience
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := ping(ctx, client)
		if err == nil || errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return last
		}
	}
}

func ping(ctx context.Context, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/_ping", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// logTimeout bounds fetching the log of an engine that is not well.
const logTimeout = 15 * time.Second

// withLog adds the end of the engine's log to an error. The context may be done: the log is fetched nonetheless.
func (r *run) withLog(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logTimeout)
	defer cancel()
	out, logErr := r.script(ctx, `if [ -d /run/systemd/system ]; then journalctl --no-pager -n 30 -o cat -u berthd.service
else tail -n 30 `+logFile+`; fi 2>/dev/null`)
	if text := strings.TrimSpace(string(out)); logErr == nil && text != "" {
		return &LogError{Err: err, Log: text}
	}
	return err
}

// LogError is an error of the engine with the end of its log.
type LogError struct {
	Err error
	Log string // several lines
}

func (e *LogError) Error() string { return e.Err.Error() + "\n" + e.Log }
func (e *LogError) Unwrap() error { return e.Err }
