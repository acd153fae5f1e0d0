package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func (a *app) mountCmd() *cobra.Command {
	var unmount bool
	cmd := &cobra.Command{
		Use:   "mount [MACHINE:]PATH MOUNTPOINT",
		Short: "Not supported yet: mount a directory from a machine",
		RunE: func(*cobra.Command, []string) error {
			return withHint(errors.New("mount is not supported: berth brings no SSHFS along"),
				"To copy files: %[1]s scp -r MACHINE:PATH PATH. To mount with the sshfs program: see Driver in `%[1]s inspect MACHINE` for address, user and key.", a.program())
		},
	}
	cmd.Flags().BoolVarP(&unmount, "unmount", "u", false, "Unmount instead of mount")
	return cmd
}
