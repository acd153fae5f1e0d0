package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
)

func (a *app) restartCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "restart [NAME...]",
		Short:             "Restart a machine",
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd, args, func(ctx context.Context, m *machine.Manager, name string) error {
				if err := m.Restart(ctx, name); err != nil {
					return err
				}
				m.Report.Note(name, fmt.Sprintf("Machine %q was restarted.", name))
				return nil
			})
		},
	}
}
