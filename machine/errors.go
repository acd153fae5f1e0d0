package machine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/getberth/berth/drivers"
)

// ErrNotRunning is the error about a machine that would have to run.
var ErrNotRunning = errors.New("Host is not running") //nolint:staticcheck // docker-machine's words

// ErrNoSSH is the error about a machine that berth cannot log in to.
var ErrNoSSH = errors.New("only its engine's URL is known: berth cannot log in to it, nor install or change anything there")

// NotExistError is about a name that no machine has.
type NotExistError struct{ Name, Program string }

func (e *NotExistError) Error() string {
	return fmt.Sprintf("Docker machine %q does not exist. Use \"%s ls\" to list machines. Use \"%s create\" to add a new one.", e.Name, e.Program, e.Program)
}

// ExistsError is about a name that is taken.
type ExistsError struct{ Name string }

func (e *ExistsError) Error() string { return fmt.Sprintf("Docker machine %q already exists", e.Name) }

// StateError is about a machine that is already as it was asked to be.
type StateError struct {
	Name  string
	State drivers.State
}

func (e *StateError) Error() string {
	return fmt.Sprintf("Machine %q is already %s.", e.Name, strings.ToLower(string(e.State)))
}

// CheckError is a create that its driver refused before anything was made.
type CheckError struct{ Err error }

// Error is docker-machine's line; a hint of the driver's follows on a line of its own.
func (e *CheckError) Error() string {
	what, hint, hinted := strings.Cut(e.Err.Error(), "\nhint: ")
	text := fmt.Sprintf("Error with pre-create check: %q", what)
	if hinted {
		text += "\nhint: " + hint
	}
	return text
}

func (e *CheckError) Unwrap() error { return e.Err }

// HintError adds to an error the command that helps.
type HintError struct {
	Err  error
	Hint string // one or more lines
}

func (e *HintError) Error() string { return e.Err.Error() }
func (e *HintError) Unwrap() error { return e.Err }

func (m *Manager) hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &HintError{Err: err, Hint: strings.ReplaceAll(fmt.Sprintf(format, args...), "{berth}", m.Program)}
}

// RolledBackError is an engine that did not work, in whose place the one before it runs again.
type RolledBackError struct{ Err error }

func (e *RolledBackError) Error() string {
	return fmt.Sprintf("the new engine does not work, and the previous one is back: %v", e.Err)
}
func (e *RolledBackError) Unwrap() error { return e.Err }
