package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
)

func (a *app) startCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "start [NAME...]",
		Short:             "Start a machine",
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.each(cmd, args, func(ctx context.Context, m *machine.Manager, name string) error {
				if err := m.Start(ctx, name); err != nil {
					return err
				}
				m.Report.Note(name, fmt.Sprintf("Machine %q was started.", name))
				return nil
			})
			if err == nil && !a.global.quiet {
				a.printf("Started machines may have new IP addresses. You may need to re-run the `%s env` command.\n", a.program())
			}
			return err
		},
	}
}
