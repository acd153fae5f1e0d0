//go:build linux

// Command init is process 1 of the light VM, from the initial RAM disk on. It is a program apart from the engine, since starting that
// costs an emulated processor most of a second and its packages' memory.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/getberth/berth/guest/pid1"
)

func main() {
	if err := pid1.Main(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
		os.Exit(1)
	}
}
