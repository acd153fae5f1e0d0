// Package shim is the vocabulary that the engine and berth-shim, the supervisor of one container, have in common:
// what to run, what became of it, and the streams in between. It is plain data and imports none of berth's packages but logs,
// so that the supervisor stays small.
package shim

import (
	"io"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/getberth/berth/engine/logs"
)

// Create is everything a supervisor needs to make a container. It is written to the bundle before the supervisor starts.
type Create struct {
	ID        string      // full container id, 64 hex digits
	Bundle    string      // absolute folder of the container's runtime state; holds spec, socket and exit record
	Spec      *specs.Spec // the root filesystem is mounted already when Create is sent
	OpenStdin bool        // keep stdin open without a client; otherwise stdin reads end of file
	StdinOnce bool        // close stdin when the first attached client leaves
	Log       logs.Config // where the supervisor writes the container's output
}

// TTY reports whether the container's first process has a terminal.
func (c Create) TTY() bool { return c.Spec != nil && c.Spec.Process != nil && c.Spec.Process.Terminal }

// Exit is how a container's first process ended. The supervisor makes it durable before it reports it.
type Exit struct {
	Code      int       // as Docker counts: 128 + signal for a killed process
	At        time.Time // UTC
	OOMKilled bool
	Error     string // why the process could not be started; empty otherwise
}

// Status is the state of a container as its supervisor, or what the supervisor left behind, tells it.
type Status string

// The states a supervised container goes through, in this order.
const (
	Created Status = "created"
	Running Status = "running"
	Paused  Status = "paused"
	Stopped Status = "stopped"
	Unknown Status = "unknown" // no bundle, or a supervisor that died without an exit record
)

// State is what recovery needs after the engine has been restarted.
type State struct {
	Status    Status
	PID       int // of the container's first process, in the engine's pid namespace; 0 unless running or paused
	StartedAt time.Time
	Exit      *Exit // set when Status is Stopped
}

// Streams are one client's ends of a process's stdio. A nil stream is not connected. With a terminal Stderr is unused.
type Streams struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Exec is one more process in a running container.
type Exec struct {
	ID      string         // exec id, 64 hex digits
	Process *specs.Process // user, args, env, cwd, capabilities, terminal and console size
}
