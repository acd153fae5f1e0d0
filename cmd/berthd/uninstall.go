//go:build linux

package main

import (
	"errors"
	"io/fs"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/engine"
	"github.com/getberth/berth/engine/config"
)

// newUninstall removes what only the engine knows how to find. The program and its files are whoever's that installed them.
func newUninstall() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "End all containers and delete them, and all images, volumes and networks",
		Long: "End all containers and delete them, and all images, volumes and networks, with all that the engine has in the kernel.\n" +
			"The engine must not run. The program and its configuration stay.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := config.Load(file)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			c = c.WithDefaults()
			return engine.Uninstall(cmd.Context(), c, newLogger(cmd.ErrOrStderr(), "text", slog.LevelError))
		},
	}
	cmd.Flags().StringVar(&file, "config-file", config.File, "configuration file")
	return cmd
}
