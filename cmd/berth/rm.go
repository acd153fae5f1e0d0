package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
)

type rmOptions struct{ force, yes, forget bool }

func (a *app) rmCmd() *cobra.Command {
	var o rmOptions
	cmd := &cobra.Command{
		Use:               "rm NAME...",
		Short:             "Remove a machine",
		Long:              "Remove a machine: its driver deletes it, then its record goes. If the driver fails the record stays, and rm can be tried again.",
		ValidArgsFunction: a.completeNames,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.rm(cmd, args, o) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.force, "force", "f", false, "Do not ask, take a machine that does not exist for removed, and delete the files of one whose record is broken")
	f.BoolVarP(&o.yes, "yes", "y", false, "Do not ask")
	f.BoolVar(&o.forget, "forget", false, "Delete the record only, and leave the machine itself as it is")
	return cmd
}

func (a *app) rm(cmd *cobra.Command, args []string, o rmOptions) error {
	if len(args) == 0 {
		return &usageError{errNoName}
	}
	m, err := a.manager(cmd)
	if err != nil {
		return err
	}
	names, err := targets(m, args)
	if err != nil {
		return err
	}
	a.announceRemoval(names, o)
	if !o.yes && !o.force {
		ok, err := a.confirm("Are you sure?")
		if err != nil {
			return withHint(err, "To remove without a question: %s rm -y %s", a.program(), strings.Join(names, " "))
		}
		if !ok {
			return nil
		}
	}
	return a.eachNamed(cmd.Context(), m, names, func(ctx context.Context, m *machine.Manager, name string) error {
		return a.rmOne(ctx, m, name, o)
	})
}

func (a *app) announceRemoval(names []string, o rmOptions) {
	if a.global.quiet {
		return
	}
	a.printf("About to remove %s\n", strings.Join(names, ", "))
	if o.forget {
		a.printf("WARNING: This action will delete the local reference only.\n")
		return
	}
	a.printf("WARNING: This action will delete both local reference and remote instance.\n")
}

func (a *app) rmOne(ctx context.Context, m *machine.Manager, name string, o rmOptions) error {
	err := m.Remove(ctx, name, machine.RemoveOptions{Broken: o.force, Forget: o.forget})
	var missing *machine.NotExistError
	switch {
	case o.force && errors.As(err, &missing):
		fmt.Fprintln(a.err, err) // what was wanted is so
		return nil
	case err != nil:
		return fmt.Errorf("Error removing host %q: %w", name, err) //nolint:staticcheck // docker-machine's words
	}
	m.Report.Note(name, "Successfully removed "+name)
	return nil
}
