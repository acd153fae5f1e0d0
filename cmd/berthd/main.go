//go:build linux

// Berthd is the container engine of berth's machines. It speaks the Docker Engine API, and takes dockerd's flags.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	root := newRoot()
	root.SetArgs(arguments(os.Args))
	if err := root.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "berthd:", err)
		os.Exit(1)
	}
}

// arguments are those of `serve` when the program is called by dockerd's name, as suites that start an engine of their own do. Then
// the configuration is read from where dockerd's is, if there is one.
func arguments(argv []string) []string {
	if len(argv) > 0 && filepath.Base(argv[0]) == "dockerd" {
		return append([]string{"serve", "--config-file", dockerFile}, argv[1:]...)
	}
	return argv[1:]
}
