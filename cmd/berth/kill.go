package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
)

func (a *app) killCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "kill [NAME...]",
		Short:             "Kill a machine: cut its power",
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd, args, func(ctx context.Context, m *machine.Manager, name string) error {
				if err := m.Kill(ctx, name); err != nil {
					return err
				}
				m.Report.Note(name, fmt.Sprintf("Machine %q was killed.", name))
				return nil
			})
		},
	}
}
