package container

import (
	"io"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/getberth/berth/engine/filter"
)

// ListOptions selects containers for List.
type ListOptions struct {
	All     bool
	Limit   int // 0 means no limit; a limit implies All
	Size    bool
	Filters filter.Args
}

// AttachOptions says what a client wants of a container's streams.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	Logs                  bool // replay what was logged first
	Stream                bool // stay connected
	DetachKeys            string
}

// Streams are a client's ends after the connection has been taken over. Close half-closes nothing: it ends the connection.
type Streams struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer // the same as Stdout when the container has a TTY
}

// Opener takes over the client's connection. A service calls it once everything that can be refused has been checked, so
// that errors before it are plain HTTP answers. tty says that the stream is raw rather than multiplexed.
type Opener func(tty bool) (Streams, error)

// LogsOptions selects log lines.
type LogsOptions struct {
	Stdout, Stderr bool
	Follow         bool
	Timestamps     bool
	Details        bool
	Since, Until   time.Time // zero means unbounded
	Tail           int       // last lines only; negative means all
}

// StopOptions says how to end a container. A nil Timeout means the container's own (10 s by default); negative means no limit.
type StopOptions struct {
	Signal  string
	Timeout *int // seconds
}

// RemoveOptions says what goes with a container.
type RemoveOptions struct {
	Force   bool
	Volumes bool // anonymous ones
	Link    bool
}

// ExecStartOptions says how a client takes part in an exec.
type ExecStartOptions struct {
	Detach      bool
	TTY         bool
	ConsoleSize [2]uint // height, width; zero means unknown
	DetachKeys  string
}

// ArchivePath describes the file that an archive request names.
type ArchivePath = container.PathStat

// WaitResult is what a wait ends with.
type WaitResult struct {
	Code int
	Err  error // worded for the client, e.g. why the container could not be started
}

// CommitOptions says what image to make of a container.
type CommitOptions struct {
	Ref     string // repository[:tag]; may be empty
	Comment string
	Author  string
	Pause   bool
	Changes []string          // Dockerfile instructions
	Config  *container.Config // overrides; may be nil
}
