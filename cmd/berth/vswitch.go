package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// vswitchCmd is the helper that the qemu driver runs in the background, one for each store: the light VMs' network.
func (a *app) vswitchCmd() *cobra.Command {
	return &cobra.Command{
		Use:                "__vswitch",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("this berth has no virtual switch")
		},
	}
}
