package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
)

func (a *app) provisionCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "provision [NAME...]",
		Short:             "Install the engine again, or what is missing of it",
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd, args, func(ctx context.Context, m *machine.Manager, name string) error {
				return m.Provision(ctx, name)
			})
		},
	}
}
