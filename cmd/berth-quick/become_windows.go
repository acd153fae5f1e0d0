package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
)

// become runs the program in this one's place, with its console and its exit status: Windows cannot replace a process. An interrupt
// goes to both, and the program decides what it means. It keeps the name that the user called, which it answers to.
func become(path string) error {
	signal.Ignore(os.Interrupt)
	cmd := &exec.Cmd{Path: path, Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	err := cmd.Run()
	var exit *exec.ExitError
	if err == nil || errors.As(err, &exit) {
		os.Exit(cmd.ProcessState.ExitCode())
	}
	return err
}
