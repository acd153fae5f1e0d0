package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
)

func (a *app) upgradeCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "upgrade [NAME...]",
		Short:             "Install the newest engine that this berth has",
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd, args, func(ctx context.Context, m *machine.Manager, name string) error {
				return m.Upgrade(ctx, name)
			})
		},
	}
}
