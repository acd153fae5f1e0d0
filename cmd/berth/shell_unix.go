//go:build !windows

package main

import (
	"errors"
	"path/filepath"
)

// detectShell is the user's login shell.
func detectShell(getenv func(string) string) (string, error) {
	shell := getenv("SHELL")
	if shell == "" {
		return "", withHint(errors.New("Error: Unknown shell"), "Tell it with --shell, e.g. --shell bash.") //nolint:staticcheck // docker-machine's words
	}
	return filepath.Base(shell), nil
}
