package main

import (
	"path/filepath"

	"github.com/spf13/cobra"
)

func (a *app) configCmd() *cobra.Command {
	var swarm bool
	cmd := &cobra.Command{
		Use:               "config [NAME]",
		Short:             "Print the connection config for machine",
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
			e, err := a.clientEnv(cmd.Context(), m, name, swarm)
			if err != nil {
				return err
			}
			if e.CertPath == "" {
				a.printf("-H=%s\n", e.Host)
				return nil
			}
			file := func(name string) string { return filepath.Join(e.CertPath, name) }
			a.printf("--tlsverify\n--tlscacert=%q\n--tlscert=%q\n--tlskey=%q\n-H=%s\n", file("ca.pem"), file("cert.pem"), file("key.pem"), e.Host)
			return nil
		},
	}
	cmd.Flags().BoolVar(&swarm, "swarm", false, "Display the Swarm config instead of the Docker daemon")
	return cmd
}
