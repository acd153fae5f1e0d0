package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/machine"
)

type gcOptions struct {
	yes, dry bool
	account  accountOptions
}

func (a *app) gcCmd() *cobra.Command {
	var o gcOptions
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Find and delete what no machine knows of",
		Long: "Find what was made in a cloud for machines of this store and that no machine knows of, such as after a record was lost,\n" +
			"and delete it when you agree. Where to look is taken from the machines there are, or from the flags and variables of a driver.",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.gc(cmd, &o) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVarP(&o.yes, "yes", "y", false, "Do not ask")
	f.BoolVar(&o.dry, "dry-run", false, "Only list what there is")
	o.account.addFlags(f, a.drivers(driverEnv{getenv: a.getenv}), func(d drivers.Driver) bool { _, ok := d.(drivers.Collector); return ok })
	return cmd
}

func (a *app) gc(cmd *cobra.Command, o *gcOptions) error {
	m, err := a.manager(cmd)
	if err != nil {
		return err
	}
	var lost []machine.Lost
	for _, name := range sortedKeys(o.account.flags) {
		given, err := o.account.options(cmd.Flags(), name, a.getenv)
		if err != nil {
			return err
		}
		found, err := m.Lost(cmd.Context(), name, given)
		if err != nil {
			return err
		}
		lost = append(lost, found...)
	}
	if len(lost) == 0 {
		a.printf("Nothing is lost.\n")
		return nil
	}
	n, err := a.printLost(lost)
	if err != nil || o.dry {
		return err
	}
	if !o.yes {
		ok, err := a.confirm(fmt.Sprintf("Delete these %d?", n))
		if err != nil {
			return withHint(err, "To delete without a question: %s gc -y", a.program())
		}
		if !ok {
			return nil
		}
	}
	var errs []error
	for _, l := range lost {
		errs = append(errs, m.Collect(cmd.Context(), l))
	}
	return errors.Join(errs...)
}

func (a *app) printLost(lost []machine.Lost) (n int, err error) {
	w := tabwriter.NewWriter(a.out, 5, 1, columnGap, ' ', 0)
	fmt.Fprintln(w, "DRIVER\tKIND\tID\tNAME\tDETAIL")
	for _, l := range lost {
		for _, o := range l.Orphans {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.Driver, o.Kind, o.ID, o.Name, o.Detail)
			n++
		}
	}
	return n, w.Flush()
}
