package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) renameCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "rename NAME NEW-NAME",
		Short: "Give a machine another name",
		Long: "Give a machine another name, if its driver can: in the store, with its driver, in the engine's certificate and in the docker\n" +
			"context. The name that the machine's own system goes by stays on hosts and droplets; a light VM, which must be stopped for\n" +
			"it, takes the new one at its next start.",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.manager(cmd)
			if err != nil {
				return err
			}
			if err := m.Rename(cmd.Context(), args[0], args[1]); err != nil {
				return err
			}
			m.Report.Note(args[1], fmt.Sprintf("%q is called %q now. Shells that use it need its new environment: %s env %s", args[0], args[1], a.args[0], args[1]))
			return nil
		},
	}
}
