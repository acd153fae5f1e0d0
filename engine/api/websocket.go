package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/gorilla/websocket"

	ctr "github.com/getberth/berth/engine/container"
)

// containerAttachWS attaches over a WebSocket. Its output is never multiplexed; it is binary since API 1.28.
func containerAttachWS(c *call) error {
	o := c.attachOptions()
	if c.v < 42 {
		o.Stdin, o.Stdout, o.Stderr = true, true, true
	}
	if !websocket.IsWebSocketUpgrade(c.r) {
		return invalid("attaching over a WebSocket requires the headers of a WebSocket")
	}
	if !sameOrigin(c.r) {
		return errdefs.ErrPermissionDenied.WithMessage("attaching from the web page " + c.r.Header.Get("Origin") + " is not allowed")
	}
	ctx, cancel := context.WithCancel(c.ctx())
	defer cancel()
	s := &socket{call: c, cancel: cancel}
	err := c.Containers.Attach(ctx, c.vars["name"], o, s.open)
	if s.conn == nil {
		return err
	}
	s.close(err)
	return nil
}

// socket is an upgraded connection as a pair of streams.
type socket struct {
	call   *call
	cancel context.CancelFunc
	conn   *websocket.Conn
	kind   int

	mu sync.Mutex // guards writes
}

// maxFrame bounds a message from a client, in bytes.
const maxFrame = 1 << 20

func (s *socket) open(bool) (ctr.Streams, error) {
	upgrader := websocket.Upgrader{
		CheckOrigin: func(*http.Request) bool { return true }, // checked already
		Error:       func(http.ResponseWriter, *http.Request, int, error) {},
	}
	conn, err := upgrader.Upgrade(s.call.w, s.call.r, nil)
	if err != nil {
		return ctr.Streams{}, invalid("%v", err)
	}
	conn.SetReadLimit(maxFrame)
	s.conn, s.kind = conn, websocket.BinaryMessage
	if s.call.v < 28 {
		s.kind = websocket.TextMessage
	}
	r, w := io.Pipe()
	go s.receive(w)
	return ctr.Streams{Stdin: r, Stdout: s, Stderr: s}, nil
}

// receive passes on what the client sends until the connection ends, and answers its pings, which reading does.
func (s *socket) receive(w *io.PipeWriter) {
	for {
		_, data, err := s.conn.ReadMessage()
		if err != nil {
			w.Close()
			s.cancel()
			return
		}
		if _, err := w.Write(data); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			return
		}
	}
}

func (s *socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.conn.WriteMessage(s.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *socket) close(err error) {
	code, text := websocket.CloseNormalClosure, ""
	if err != nil && s.call.ctx().Err() == nil {
		code, text = websocket.CloseInternalServerErr, truncate(err.Error(), 120) // a control frame has at most 125 bytes
	}
	_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), time.Now().Add(time.Second))
	s.conn.Close()
}

func truncate(text string, most int) string { return text[:min(len(text), most)] }

// sameOrigin keeps foreign web pages from attaching: from a browser only the engine's own origin and local pages may.
func sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Host == r.Host || u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
