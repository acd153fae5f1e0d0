package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
)

// tunnelCmd is what berth starts in the background for a machine whose engine listens on no port.
func (a *app) tunnelCmd() *cobra.Command {
	return &cobra.Command{
		Use:    machine.TunnelCommand + " NAME",
		Short:  "Serve the local socket of a machine whose engine is reached by SSH; berth starts this by itself",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			out, ok := a.out.(*os.File)
			if !ok {
				return errors.New("the standard output must be a file")
			}
			m, err := a.manager(cmd)
			if err != nil {
				return err
			}
			return m.ServeTunnel(cmd.Context(), args[0], out)
		},
	}
}
