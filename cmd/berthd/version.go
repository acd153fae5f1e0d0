//go:build linux

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/engine"
	"github.com/getberth/berth/engine/api"
)

// version is set at build by -ldflags "-X main.version=…".
var version string

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := buildInfo()
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "berthd %s (API %s, %s, commit %s)\n", b.Version, api.MaxVersion, runtime.Version(), b.Commit)
			return err
		},
	}
}

// buildInfo is what the linker and the toolchain have left in the program.
func buildInfo() engine.Build {
	b := engine.Build{Version: version, Commit: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = "dev"
		if v := info.Main.Version; v != "" && v != "(devel)" {
			b.Version = v
		}
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		}
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/containerd/containerd/v2" {
			b.Containerd = m.Version
		}
	}
	return b
}
