package shim

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMessagesAndFramesShareAConnection(t *testing.T) {
	var wire bytes.Buffer
	want := Request{Op: OpExec, Exec: &Exec{ID: strings.Repeat("é\n", 40<<10)}, Streams: StreamSet{Stdout: true}}
	if err := WriteMessage(&wire, want); err != nil {
		t.Fatal(err)
	}
	wire.Write(AppendFrame(nil, FrameStderr, []byte("oops")))
	wire.Write(AppendFrame(nil, FrameStdin, nil))
	r := bufio.NewReader(&wire)
	var got Request
	if err := ReadMessage(r, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	stream, payload, err := ReadFrame(r, nil)
	if stream != FrameStderr || string(payload) != "oops" || err != nil {
		t.Error(stream, payload, err)
	}
	stream, payload, err = ReadFrame(r, make([]byte, 100))
	if stream != FrameStdin || len(payload) != 0 || err != nil {
		t.Error(stream, payload, err)
	}
	if _, _, err = ReadFrame(r, nil); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestTornInputIsAnError(t *testing.T) {
	for _, text := range []string{"", "{", `{"Op":"state"}`, "[]\n", "\x00\n", `{"Op":7}` + "\n"} {
		if err := ReadMessage(bufio.NewReader(strings.NewReader(text)), &Request{}); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	frame := AppendFrame(nil, FrameStdout, []byte("abc"))
	for i := 1; i < len(frame); i++ {
		if _, _, err := ReadFrame(bytes.NewReader(frame[:i]), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes of a frame: %v", i, err)
		}
	}
	for _, header := range []string{"\x01\x00\x00\x00\xff\xff\xff\xff", "\x09\x00\x00\x00\x00\x00\x00\x00", "\x01\x01\x00\x00\x00\x00\x00\x00"} {
		if _, _, err := ReadFrame(strings.NewReader(header+"abc"), nil); err == nil {
			t.Errorf("%x was taken", header)
		}
	}
}

func TestEndlessMessageIsBounded(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`{"Op":"`), zeros{})
	if err := ReadMessage(bufio.NewReader(endless), &Request{}); err == nil {
		t.Error("an endless message was taken")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

func FuzzProtocol(f *testing.F) {
	f.Add([]byte("{\"Op\":\"attach\"}\n\x01\x00\x00\x00\x00\x00\x00\x01x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReader(bytes.NewReader(data))
		if ReadMessage(r, &Request{}) != nil {
			return
		}
		for {
			if _, payload, err := ReadFrame(r, nil); err != nil || len(payload) > MaxFrame {
				return
			}
		}
	})
}
