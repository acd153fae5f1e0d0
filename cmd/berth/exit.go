package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
	"github.com/getberth/berth/sshutil"
)

// Exit statuses; docs/cli.md and the help topic exit-codes tell them.
const (
	exitOK     = 0
	exitError  = 1
	exitRefuse = 3 // the driver's check before create failed; nothing was written
)

const exitCodesHelp = `Exit codes of every command:

  0  success
  1  any error, unknown commands and flags included
  3  create only: the driver's check failed, and nothing was written

ssh is different: it exits with the status of the remote command, and with 1 when that could not be run.
`

// fail prints an error, with its hint on lines of its own, and returns the exit status.
func (a *app) fail(cmd *cobra.Command, err error) int {
	var remote *remoteStatus
	if errors.As(err, &remote) {
		return remote.status
	}
	fmt.Fprintln(a.err, strings.TrimRight(err.Error(), "\n"))
	for _, hint := range hints(err) {
		fmt.Fprintln(a.err, hint)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(a.err, "See '%s --help'.\n", cmd.CommandPath())
	}
	if refused(err) {
		return exitRefuse
	}
	return exitError
}

// refused tells an error that is nothing but the driver's refusal to begin.
func refused(err error) bool {
	var check *machine.CheckError
	var partly *partlyError
	if errors.As(err, &partly) {
		return false
	}
	var many *multierror.Error
	if errors.As(err, &many) {
		for _, e := range many.Errors {
			if !errors.As(e, &check) {
				return false
			}
		}
	}
	return errors.As(err, &check)
}

// partlyError is of a command over several machines, some of which it made.
type partlyError struct{ error }

func (e *partlyError) Unwrap() error { return e.error }

// hints are those of an error and of all that it joins, each once.
func hints(err error) []string {
	var many *multierror.Error
	if errors.As(err, &many) {
		var all []string
		seen := map[string]bool{}
		for _, e := range many.Errors {
			for _, h := range hints(e) {
				if !seen[h] {
					all = append(all, h)
				}
				seen[h] = true
			}
		}
		return all
	}
	var h *machine.HintError
	if errors.As(err, &h) {
		return []string{h.Hint}
	}
	return nil
}

func withHint(err error, format string, args ...any) error {
	return &machine.HintError{Err: err, Hint: fmt.Sprintf(format, args...)}
}

// usageError is a command line that makes no sense; the error is followed by where to look.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// remoteStatus ends ssh as the remote command ended; what went wrong is already on the terminal.
type remoteStatus struct{ status int }

func (e *remoteStatus) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// asRemoteStatus turns a remote command's failure into this process's.
func asRemoteStatus(err error) error {
	var exit *sshutil.ExitError
	if errors.As(err, &exit) {
		return &remoteStatus{status: exit.ExitStatus()}
	}
	return err
}

// oneErrorPerLine is how errors of a command over several machines are printed.
func oneErrorPerLine(errs []error) string {
	lines := make([]string, len(errs))
	for i, err := range errs {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}
