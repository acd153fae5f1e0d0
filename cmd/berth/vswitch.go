package main

import (
	"github.com/spf13/cobra"

	"github.com/getberth/berth/drivers/qemu/vswitch"
)

// vswitchCmd is the helper that the qemu driver runs in the background, one for each store: the light VMs' network.
func (a *app) vswitchCmd() *cobra.Command {
	return &cobra.Command{
		Use:                "__vswitch",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE:               func(cmd *cobra.Command, args []string) error { return vswitch.Main(cmd.Context(), args) },
	}
}
