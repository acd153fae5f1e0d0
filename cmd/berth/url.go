package main

import "github.com/spf13/cobra"

func (a *app) urlCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "url [NAME]",
		Short:             "Get the URL of a machine",
		ValidArgsFunction: a.completeOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.manager(cmd)
			if err != nil {
				return err
			}
			name, err := target(m, args)
			if err != nil {
				return err
			}
			e, err := a.reachable(cmd.Context(), m, name)
			if err != nil {
				return err
			}
			if err := m.OpenTunnel(cmd.Context(), name); err != nil {
				return err
			}
			a.printf("%s\n", e.Host)
			return nil
		},
	}
}
