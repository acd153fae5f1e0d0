package shim

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The protocol between the engine and a supervisor. A supervisor is started before it is needed, with one end of a socket pair
// as ControlFD. On it the engine sends one message, the path of the bundle, along with two descriptors: the listening socket,
// and the file for the supervisor's own messages. The supervisor answers there with one Reply once the container was made, or
// could not be. When the socket closes before, there is nothing to do and the supervisor ends.
//
// From then on it listens on SocketFile in the bundle. A connection carries
// one request, a line of JSON, and one reply, likewise. After the reply to attach and exec both sides send frames: a header
// [stream, 0, 0, 0, length as 32 bits, big-endian] and length bytes. The engine sends Stdin, where an empty frame is the end
// of the input; the supervisor sends Stdout and Stderr and, for an exec, at last Ended with the exit code as JSON. A closed
// connection is a client that has left; it does not end the process.

// Files of a bundle.
const (
	CreateFile = "create.json"    // Create, written by the engine before the supervisor starts
	SocketFile = "shim.sock"      // mode 0600
	CgroupFile = "cgroup"         // path of the cgroup below each hierarchy, written by the engine
	ExitFile   = "exit.json"      // State, written by the supervisor before it reports the exit
	LogFile    = "supervisor.log" // what the supervisor has to say for itself
)

const (
	// ControlFD is the descriptor of a supervisor's end of the socket pair.
	ControlFD = 3
	// MaxTitle is the length in bytes of a supervisor's only argument, a blank that it replaces by the container's id for ps.
	MaxTitle = 64
	// MaxPath bounds the path of a bundle in bytes, as the kernel does (PATH_MAX).
	MaxPath = 4096
)

// Op names a request.
type Op string

// Requests. All but Attach, Exec and Wait are answered at once.
const (
	OpStart  Op = "start"  // runs the first process; Reply.State has the pid
	OpAttach Op = "attach" // Streams
	OpExec   Op = "exec"   // Exec, Streams; Reply.PID
	OpSignal Op = "signal" // Signal
	OpResize Op = "resize" // ExecID, Width, Height
	OpPause  Op = "pause"
	OpResume Op = "resume"
	OpUpdate Op = "update" // Resources
	OpState  Op = "state"  // Reply.State
	OpWait   Op = "wait"   // answered when the first process has ended; Reply.State.Exit
	OpEnd    Op = "end"    // kills everything; answered like OpWait. The connection closes when the supervisor is gone.
)

// Request asks a supervisor for something. Which fields count depends on Op.
type Request struct {
	Op        Op
	Exec      *Exec                 `json:",omitempty"`
	ExecID    string                `json:",omitempty"`
	Streams   StreamSet             `json:",omitzero"`
	Signal    int                   `json:",omitempty"`
	Width     uint16                `json:",omitempty"`
	Height    uint16                `json:",omitempty"`
	Resources *specs.LinuxResources `json:",omitempty"`
}

// StreamSet says which streams a client is connected to.
type StreamSet struct {
	Stdin, Stdout, Stderr bool
}

// Kind classifies an error so that it survives the connection.
type Kind string

// Kinds of errors.
const (
	Failed     Kind = "failed"
	NotFound   Kind = "not found"
	NotRunning Kind = "not running"
	Invalid    Kind = "invalid"
)

// Reply answers a Request.
type Reply struct {
	Error string `json:",omitempty"`
	Kind  Kind   `json:",omitempty"` // set if and only if Error is
	PID   int    `json:",omitempty"`
	State *State `json:",omitempty"`
}

// maxMessage bounds requests and replies. The largest are execs, whose environment and arguments the kernel limits to 6 MiB.
const maxMessage = 8 << 20

// WriteMessage sends a Request or Reply.
func WriteMessage(w io.Writer, message any) error {
	b, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encoding a message to the supervisor: %w", err)
	}
	if len(b) > maxMessage {
		return fmt.Errorf("a message of %d bytes is longer than %d", len(b), maxMessage)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// ReadMessage receives a Request or Reply. Frames may follow in r.
func ReadMessage(r *bufio.Reader, message any) error {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxMessage {
			return fmt.Errorf("a message is longer than %d bytes", maxMessage)
		}
		if err == nil && line == nil {
			return decode(part, message)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return decode(line, message)
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
}

func decode(line []byte, message any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	if err := d.Decode(message); err != nil {
		return fmt.Errorf("decoding a message: %w", err)
	}
	return nil
}

// Stream numbers of frames; those of stdio are the ones of Docker's multiplexed streams.
const (
	FrameStdin  byte = 0
	FrameStdout byte = 1
	FrameStderr byte = 2
	FrameEnded  byte = 3 // an Ended as JSON, the last frame of an exec
)

// Ended is how an exec's process has ended.
type Ended struct {
	Code int
}

const (
	// HeaderSize is the length of a frame's header in bytes.
	HeaderSize = 8
	// MaxFrame is the most bytes that a frame carries.
	MaxFrame = 64 << 10
)

// AppendFrame appends one frame to b; the payload has at most MaxFrame bytes.
func AppendFrame(b []byte, stream byte, payload []byte) []byte {
	b = append(b, stream, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// ReadFrame receives one frame, reusing buf for its payload where it fits. The error is io.EOF only between frames.
func ReadFrame(r io.Reader, buf []byte) (stream byte, payload []byte, err error) {
	var header [HeaderSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(header[4:])
	if header[1]|header[2]|header[3] != 0 || header[0] > FrameEnded || n > MaxFrame {
		return 0, nil, fmt.Errorf("not a frame: % x", header)
	}
	if int(n) > cap(buf) {
		buf = make([]byte, n)
	}
	payload = buf[:n]
	if _, err := io.ReadFull(r, payload); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return header[0], payload, nil
}
