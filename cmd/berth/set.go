package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/getberth/berth/machine"
)

func (a *app) setCmd() *cobra.Command {
	var o machine.SetOptions
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change options of a machine's engine; its containers go on running",
		Long: "Change options of a machine's engine, which restarts with them; its containers go on running. A flag replaces all\n" +
			"that the machine had of its kind, an empty value clears it: --engine-registry-mirror=\"\". An --engine-opt replaces the\n" +
			"option that it names; NAME= returns that to its default. Options with which the engine does not work are put back.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.set(cmd, args[0], o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	addEngineFlags(f, &o.Engine)
	f.StringArrayVar(&o.SANs, "tls-san", nil, "Extra SANs for TLS certs")
	completeEngineFlags(cmd)
	return cmd
}

// addEngineFlags are those that create and set share.
func addEngineFlags(f *pflag.FlagSet, e *machine.EngineOptions) {
	f.StringArrayVar(&e.Opts, "engine-opt", nil, "Option of the engine in the form flag=value")
	f.StringArrayVar(&e.InsecureRegistries, "engine-insecure-registry", nil, "Specify insecure registries to allow with the created engine")
	f.StringArrayVar(&e.RegistryMirrors, "engine-registry-mirror", nil, "Specify registry mirrors to use")
	f.StringArrayVar(&e.Labels, "engine-label", nil, "Specify labels for the created engine")
	f.StringVar(&e.StorageDriver, "engine-storage-driver", "", "Specify a storage driver to use with the engine")
	f.StringArrayVar(&e.Env, "engine-env", nil, "Specify environment variables to set in the engine")
}

func (a *app) set(cmd *cobra.Command, name string, o machine.SetOptions) error {
	given := 0
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Name, "engine-") || f.Name == "tls-san" {
			given++
		}
	})
	if given == 0 {
		return &usageError{errors.New("nothing to set: give one of the flags")}
	}
	o.StorageDriver = cmd.Flags().Changed("engine-storage-driver")
	m, err := a.manager(cmd)
	if err != nil {
		return err
	}
	if _, err := m.Record(name); err != nil {
		return err
	}
	return a.eachNamed(cmd.Context(), m, []string{name}, func(ctx context.Context, m *machine.Manager, name string) error {
		return m.Set(ctx, name, o)
	})
}
