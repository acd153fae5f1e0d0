package sshutil

import (
	"errors"
	"fmt"
	"strings"
)

// ErrLost is what everything fails with after the connection broke: the peer died, closed it, or stopped answering.
var ErrLost = errors.New("the SSH connection was lost")

// Kind is why dialling failed. It is an error, for errors.Is.
type Kind string

// The kinds of dial errors.
const (
	Refused         Kind = "connection refused"
	TimedOut        Kind = "timed out"
	Unreachable     Kind = "unreachable"       // no route, network down
	NoSuchHost      Kind = "no such host"      // the name does not resolve
	HostKeyMismatch Kind = "host key mismatch" // nothing secret was sent
	AuthFailed      Kind = "permission denied"
	NotSSH          Kind = "not an SSH server"  // something else, or garbage, answers
	Closed          Kind = "connection closed"  // by the peer, before the session was ready
	Dropped         Kind = "connection dropped" // by the peer, which had shown the pinned key, during authentication
	Other           Kind = "failed"
)

func (k Kind) Error() string { return string(k) }

// DialError is why no connection came about.
type DialError struct {
	User, Addr string
	Kind       Kind
	Detail     string // for people: what exactly; may be empty
	Err        error  // cause; may be nil
}

func (e *DialError) Error() string {
	s := fmt.Sprintf("ssh %s@%s: %s", e.User, e.Addr, string(e.Kind))
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

func (e *DialError) Unwrap() error { return e.Err }

// Is makes errors.Is(err, Refused) work.
func (e *DialError) Is(target error) bool { k, ok := target.(Kind); return ok && k == e.Kind }

// ExitError is a command that ran and did not succeed.
type ExitError struct {
	Cmd    string
	Status int    // 0 to 255; 128 + number for a signal
	Signal string // without SIG, when a signal ended the command
	Stderr string // the last of what it wrote to standard error, at most 4 kB
}

func (e *ExitError) Error() string {
	s := fmt.Sprintf("%q exited with status %d", firstLine(e.Cmd), e.Status)
	if e.Signal != "" {
		s = fmt.Sprintf("%q was ended by SIG%s", firstLine(e.Cmd), e.Signal)
	}
	if msg := strings.TrimSpace(e.Stderr); msg != "" {
		s += ": " + msg
	}
	return s
}

// ExitStatus is the status to exit with when passing the command's on.
func (e *ExitError) ExitStatus() int { return e.Status }

// firstLine shortens a command for an error message.
func firstLine(cmd string) string {
	line, _, more := strings.Cut(strings.TrimSpace(cmd), "\n")
	if more {
		line += " …"
	}
	return abbreviate(line, 80)
}
