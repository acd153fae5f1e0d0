package api

import (
	"encoding/binary"
	"io"
	"sync"

	"github.com/moby/moby/api/pkg/stdcopy"
)

// mux writes several streams over one connection, each piece behind a header of its stream and length.
type mux struct {
	mu  sync.Mutex // guards what follows
	w   io.Writer
	buf []byte // a header and a piece; written at once, so that a TLS record or a chunk holds both
}

// stream is the end of one of the streams.
func (m *mux) stream(kind stdcopy.StdType) io.Writer { return muxStream{m, kind} }

type muxStream struct {
	mux  *mux
	kind stdcopy.StdType
}

// maxPiece bounds a piece and with it the buffer that a connection holds, in bytes.
const maxPiece = 64 << 10

func (s muxStream) Write(p []byte) (written int, err error) {
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	for len(p) > 0 {
		piece := p[:min(len(p), maxPiece)]
		s.mux.buf = append(s.mux.buf[:0], byte(s.kind), 0, 0, 0)
		s.mux.buf = binary.BigEndian.AppendUint32(s.mux.buf, uint32(len(piece)))
		s.mux.buf = append(s.mux.buf, piece...)
		if _, err := s.mux.w.Write(s.mux.buf); err != nil {
			return written, err
		}
		written += len(piece)
		p = p[len(piece):]
	}
	return written, nil
}
