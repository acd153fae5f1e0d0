package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
)

type rmOptions struct{ force, yes, forget, uninstall bool }

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
	f.BoolVar(&o.uninstall, "uninstall", false, "From a host that stays (driver generic): also remove the engine, with all its containers, images and volumes")
	cmd.MarkFlagsMutuallyExclusive("forget", "uninstall")
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
	a.announceRemoval(m, names, o)
	if !o.yes && !o.force {
		ok, err := a.confirm("Are you sure?")
		if err != nil {
			return withHint(err, "To remove without a question: %s rm -y %s", a.program(), strings.Join(names, " "))
		}
		if !ok {
			return nil
		}
		if o.uninstall, err = a.askUninstall(m, names, o); err != nil {
			return err
		}
	}
	return a.eachNamed(cmd.Context(), m, names, func(ctx context.Context, m *machine.Manager, name string) error {
		return a.rmOne(ctx, m, name, o)
	})
}

func (a *app) announceRemoval(m *machine.Manager, names []string, o rmOptions) {
	if a.global.quiet {
		return
	}
	a.printf("About to remove %s\n", strings.Join(names, ", "))
	staying := stayingHosts(m, names)
	switch {
	case o.forget, len(staying) == len(names) && !o.uninstall:
		a.printf("WARNING: This action will delete the local reference only.\n")
	case len(staying) == len(names):
		a.printf("WARNING: This action will delete the local reference, and the engine on the host with all containers, images and volumes.\n")
	default:
		a.printf("WARNING: This action will delete both local reference and remote instance.\n")
	}
}

// stayingHosts are those of the machines whose host their driver leaves alone.
func stayingHosts(m *machine.Manager, names []string) []string {
	var staying []string
	for _, name := range names {
		if _, stays := m.Stays(name); stays {
			staying = append(staying, name)
		}
	}
	return staying
}

// askUninstall offers to uninstall the engine from hosts that stay, if all do.
func (a *app) askUninstall(m *machine.Manager, names []string, o rmOptions) (bool, error) {
	if o.uninstall || o.forget || len(stayingHosts(m, names)) < len(names) {
		return o.uninstall, nil
	}
	yes, err := a.confirm("Uninstall the engine from the host, too, with all its containers, images and volumes?")
	if errors.Is(err, errNoAnswer) {
		return false, nil // a script that answers docker-machine's one question
	}
	return yes, err
}

func (a *app) rmOne(ctx context.Context, m *machine.Manager, name string, o rmOptions) error {
	address, stays := m.Stays(name)
	err := m.Remove(ctx, name, machine.RemoveOptions{Broken: o.force, Forget: o.forget, Uninstall: o.uninstall})
	var missing *machine.NotExistError
	switch {
	case o.force && errors.As(err, &missing):
		fmt.Fprintln(a.err, err) // what was wanted is so
		return nil
	case err != nil:
		return fmt.Errorf("Error removing host %q: %w", name, err) //nolint:staticcheck // docker-machine's words
	}
	m.Report.Note(name, "Successfully removed "+name)
	if stays && !o.uninstall {
		m.Report.Note(name, fmt.Sprintf("The engine and its containers go on running on %s: the host itself stays as it is. "+
			"To uninstall the engine later, create the machine again, then: %s rm --uninstall %s", address, a.program(), name))
	}
	return nil
}
