package api

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/jsonstream"

	ctr "github.com/getberth/berth/engine/container"
)

// progress sends the messages of a pull, push or load. Clients read them as they come.
type progress struct{ c *call }

// message is a progress message with the error as clients of before API 1.4 read it; some SDKs still do.
type message struct {
	jsonstream.Message
	ErrorText string `json:"error,omitempty"`
}

func (p progress) send(m jsonstream.Message) error {
	if err := p.c.ctx().Err(); err != nil {
		return err
	}
	return p.write(message{Message: m})
}

func (p progress) write(m message) error {
	if !p.c.w.started {
		p.c.w.Header().Set("Content-Type", "application/json")
	}
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if _, err := p.c.w.Write(append(line, "\r\n"...)); err != nil {
		return err
	}
	return p.c.w.Flush()
}

// finish ends the stream: an error becomes its last message, or a plain answer when nothing has been sent.
func (p progress) finish(err error) error {
	switch {
	case err == nil:
		return p.c.w.Flush()
	case !p.c.w.started:
		return err
	case p.c.ctx().Err() != nil:
		return nil
	}
	return p.write(message{Message: jsonstream.Message{Error: &jsonstream.Error{Message: err.Error()}}, ErrorText: err.Error()})
}

// flusher sends each piece at once.
type flusher struct{ w *response }

func (f flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.w.Flush()
	}
	return n, err
}

// lazyBody is an answer's body whose headers are sent with the first byte, so that errors before it are plain answers.
type lazyBody struct {
	c     *call
	media string
}

func (b lazyBody) Write(p []byte) (int, error) {
	if !b.c.w.started {
		b.c.w.Header().Set("Content-Type", b.media)
	}
	return b.c.w.Write(p)
}

// openLogs answers with a container's output as an ordinary body. One that is not followed is sent in larger pieces.
func (c *call) openLogs(follow bool) ctr.Opener {
	return func(tty bool) (ctr.Streams, error) {
		media := types.MediaTypeRawStream
		if !tty && c.v >= 42 {
			media = types.MediaTypeMultiplexedStream
		}
		c.w.Header().Set("Content-Type", media)
		c.w.WriteHeader(http.StatusOK)
		if err := c.w.Flush(); err != nil {
			return ctr.Streams{}, err
		}
		var out io.Writer = c.w
		if follow {
			out = flusher{c.w}
		}
		if tty {
			return ctr.Streams{Stdout: out, Stderr: out}, nil
		}
		m := &mux{w: out}
		return ctr.Streams{Stdout: m.stream(stdcopy.Stdout), Stderr: m.stream(stdcopy.Stderr)}, nil
	}
}

// objects answers with a stream of JSON objects, in the form that the client prefers: lines, or a sequence (RFC 7464).
type objects struct {
	c      *call
	prefix string
}

// startObjects sends the answer's head at once: a client may wait for it before it makes happen what is to be told.
func (c *call) startObjects(media string) (objects, error) {
	for _, m := range []string{types.MediaTypeJSONLines, types.MediaTypeNDJSON, types.MediaTypeJSONSequence} {
		if accepts(c.r.Header.Get("Accept"), m) {
			media = m
			break
		}
	}
	c.w.Header().Set("Content-Type", media)
	c.w.WriteHeader(http.StatusOK)
	o := objects{c: c}
	if media == types.MediaTypeJSONSequence {
		o.prefix = "\x1e"
	}
	return o, c.w.Flush()
}

func accepts(header, media string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, _, _ := strings.Cut(part, ";")
		if strings.TrimSpace(name) == media {
			return true
		}
	}
	return false
}

func (o objects) send(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(o.c.w, o.prefix+string(line)+"\n"); err != nil {
		return err
	}
	return o.c.w.Flush()
}
