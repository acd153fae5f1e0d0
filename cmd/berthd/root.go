//go:build linux

package main

import "github.com/spf13/cobra"

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "berthd",
		Short:         "The container engine of berth's machines",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newServe(), newCSR(), newVersion(), newUninstall(), newDialStdio())
	return root
}
