package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "status [NAME]",
		Short:             "Get the status of a machine",
		ValidArgsFunction: a.completeOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.manager(cmd)
			if err != nil {
				return err
			}
			name, err := target(m, args)
			if err != nil {
				return err
			}
			state, err := m.State(cmd.Context(), name)
			if err != nil {
				return fmt.Errorf("error getting state for host %s: %w", name, err)
			}
			a.printf("%s\n", state)
			return nil
		},
	}
}
