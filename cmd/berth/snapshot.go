package main

import (
	"github.com/spf13/cobra"
)

func (a *app) snapshotCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "snapshot NAME [SNAPSHOT]",
		Short: "Keep a copy of a machine's disk",
		Long: "Keep a copy of a machine's disk, if its driver can, and print what to give as the image of another machine. The copy is called\n" +
			"like the machine and the time unless it is given a name, costs money, and stays when the machine is removed.",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.manager(cmd)
			if err != nil {
				return err
			}
			as := args[0] + "-" + a.now().UTC().Format("20060102-150405")
			if len(args) == 2 {
				as = args[1]
			}
			image, err := m.Snapshot(cmd.Context(), args[0], as)
			if err != nil {
				return err
			}
			a.printf("%s\n", image)
			return nil
		},
	}
}
