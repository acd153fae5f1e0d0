package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types"

	ctr "github.com/getberth/berth/engine/container"
)

const (
	// lingering is how long a connection stays open for a client that still sends after the last output: closing it with
	// unread input would make the kernel reset it, and the client lose output that it has not read yet.
	lingering = 10 * time.Second
	// lastInput is how long input that is still on its way may take after its client has hung up.
	lastInput = 2 * time.Second
)

// takeover is a connection that a client and a container's process share once HTTP is done with it.
type takeover struct {
	c      *call
	cancel context.CancelFunc
	conn   net.Conn // nil until opened
	stdin  *input
	out    ctr.Streams
	mux    *mux // nil when the stream is raw
	watch  io.Closer
}

// takeOver runs an attach or an exec, which takes over the connection by calling open. What goes wrong before is answered as
// usual, what goes wrong afterwards is told in the stream by report.
func (c *call) takeOver(run func(ctx context.Context, open ctr.Opener) error, report func(*takeover, error)) error {
	ctx, cancel := context.WithCancel(c.ctx())
	defer cancel()
	t := &takeover{c: c, cancel: cancel}
	err := run(ctx, t.open)
	if t.conn == nil {
		return err
	}
	defer t.close()
	if err != nil && ctx.Err() == nil {
		c.Log.Debug("stream ended", "path", c.r.URL.Path, "error", err)
		report(t, err)
	}
	return nil
}

// reportError tells an error to the client of an attach, as far as the stream has a place for it.
func reportError(t *takeover, err error) {
	if t.mux != nil {
		fmt.Fprintln(t.mux.stream(stdcopy.Systemerr), err)
	}
}

// reportOutput tells why an exec could not run in its own output, where Docker's clients show it.
func reportOutput(t *takeover, err error) { fmt.Fprintf(t.out.Stdout, "%v\r\n", err) }

// open is a ctr.Opener.
func (t *takeover) open(tty bool) (ctr.Streams, error) {
	conn, buf, err := t.c.w.Hijack()
	if err != nil {
		return ctr.Streams{}, fmt.Errorf("taking over the connection: %w", err)
	}
	t.conn = conn
	early, _ := buf.Peek(buf.Reader.Buffered()) // sent before the answer
	t.stdin = &input{r: io.MultiReader(bytes.NewReader(early), conn), ended: make(chan struct{})}
	if _, err := io.WriteString(conn, t.greeting(tty)); err != nil {
		return ctr.Streams{}, fmt.Errorf("taking over the connection: %w", err)
	}
	t.out = ctr.Streams{Stdin: t.stdin, Stdout: conn, Stderr: conn}
	if !tty {
		t.mux = &mux{w: conn}
		t.out.Stdout, t.out.Stderr = t.mux.stream(stdcopy.Stdout), t.mux.stream(stdcopy.Stderr)
	}
	if w, err := watchHangup(conn, t.hungUp); err == nil {
		t.watch = w
	}
	return t.out, nil
}

// greeting is the answer's head. Its content type says how the stream is to be read only since API 1.42.
func (t *takeover) greeting(tty bool) string {
	if _, upgrade := t.c.r.Header["Upgrade"]; !upgrade {
		return "HTTP/1.1 200 OK\r\nContent-Type: " + types.MediaTypeRawStream + "\r\n\r\n"
	}
	media := types.MediaTypeRawStream
	if !tty && t.c.v >= 42 {
		media = types.MediaTypeMultiplexedStream
	}
	return "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + media + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
}

// hungUp ends a stream whose client has gone. What it has sent before still reaches the process.
func (t *takeover) hungUp() {
	timer := time.NewTimer(lastInput)
	defer timer.Stop()
	select {
	case <-t.stdin.ended:
	case <-timer.C:
	}
	t.cancel()
	_ = t.conn.SetDeadline(time.Now()) // ends writes that nobody reads any more
}

// close ends the output first, so that the client reads all of it.
func (t *takeover) close() {
	defer t.conn.Close()
	if t.watch != nil {
		t.watch.Close()
	}
	half, ok := t.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = t.conn.SetReadDeadline(time.Now().Add(lingering))
	_, _ = io.Copy(io.Discard, t.conn)
}

// input is what a client sends; it knows when that has ended. It reads the connection itself, not net/http's buffer, which
// would cancel the request's context when the client has finished sending.
type input struct {
	r     io.Reader
	once  sync.Once
	ended chan struct{}
}

func (i *input) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	if err != nil {
		i.once.Do(func() { close(i.ended) })
	}
	return n, err
}
