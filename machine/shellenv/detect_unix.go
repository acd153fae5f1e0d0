//go:build !windows

package shellenv

import "path/filepath"

// Detect is the user's login shell.
func Detect(getenv func(string) string) (string, error) {
	shell := getenv("SHELL")
	if shell == "" {
		return "", ErrUnknown
	}
	return filepath.Base(shell), nil
}
