//go:build !windows

package main

import (
	"fmt"
	"os"
	"syscall"
)

// become replaces this process. The program keeps the name that the user called, which it answers to.
func become(path string) error {
	if err := syscall.Exec(path, os.Args, os.Environ()); err != nil {
		return fmt.Errorf("running %s: %w", path, err)
	}
	return nil
}
