package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/drivers"
)

// allDrivers is the one list of drivers that this berth has.
func allDrivers(driverEnv) *drivers.Registry {
	r := new(drivers.Registry)
	return r
}

func (a *app) driversCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "drivers",
		Short: "List the drivers that make machines",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := a.manager(cmd)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(a.out, 5, 1, 3, ' ', 0)
			fmt.Fprintln(w, "NAME\tOPTIONS")
			for _, name := range m.Drivers.Names() {
				d, err := m.Drivers.Get(name)
				if err != nil {
					return err
				}
				fmt.Fprintf(w, "%s\t%d, see %s create -d %s --help\n", name, len(d.Flags()), a.program(), name)
			}
			return w.Flush()
		},
	}
}
