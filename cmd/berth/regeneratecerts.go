package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
)

type regenerateCertsOptions struct{ force, clientCerts bool }

func (a *app) regenerateCertsCmd() *cobra.Command {
	var o regenerateCertsOptions
	cmd := &cobra.Command{
		Use:               "regenerate-certs [NAME...]",
		Short:             "Regenerate TLS certificates for a machine; its containers go on running",
		ValidArgsFunction: a.completeNames,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.regenerateCerts(cmd, args, o) },
	}
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "Force rebuild and do not prompt")
	cmd.Flags().BoolVar(&o.clientCerts, "client-certs", false, "Also regenerate client certificates and CA")
	return cmd
}

func (a *app) regenerateCerts(cmd *cobra.Command, args []string, o regenerateCertsOptions) error {
	if !o.force {
		ok, err := a.confirm("Regenerate TLS machine certs?  Warning: this is irreversible.")
		if err != nil || !ok {
			return err
		}
	}
	m, err := a.manager(cmd)
	if err != nil {
		return err
	}
	names, err := targets(m, args)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := m.Record(name); err != nil {
			return err
		}
	}
	if !a.global.quiet {
		a.printf("Regenerating TLS certificates\n")
	}
	if o.clientCerts {
		if err := m.NewAuthority(cmd.Context()); err != nil {
			return err
		}
	}
	return a.eachNamed(cmd.Context(), m, names, func(ctx context.Context, m *machine.Manager, name string) error {
		return m.RegenerateCerts(ctx, name)
	})
}
