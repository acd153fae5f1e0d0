package main

import (
	"github.com/spf13/cobra"
)

func (a *app) resizeCmd() *cobra.Command {
	var disk bool
	cmd := &cobra.Command{
		Use:   "resize NAME SIZE",
		Short: "Give a machine another size",
		Long: "Give a machine another size, if its driver can: `drivers DRIVER sizes` lists them. A machine that runs is stopped for it and\n" +
			"started again.",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeSize,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.manager(cmd)
			if err != nil {
				return err
			}
			return m.Resize(cmd.Context(), args[0], args[1], disk)
		},
	}
	cmd.Flags().BoolVar(&disk, "disk", false, "Let the disk grow too; it can never shrink again")
	return cmd
}
