package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/digitalocean"
	"github.com/getberth/berth/drivers/qemu"
	"github.com/getberth/berth/guest/seed"
)

// allDrivers is the one list of drivers that this berth has.
func allDrivers(env driverEnv) *drivers.Registry {
	r := new(drivers.Registry)
	r.Add(qemu.Name, func() drivers.Driver {
		return qemu.New(qemu.Config{GuestDir: guestDir(env), Helper: []string{env.exe, "__vswitch"}, Store: env.store})
	})
	// One for all machines of this process: they share the limits of the account.
	r.Add(digitalocean.Name, sync.OnceValue(func() drivers.Driver { return digitalocean.New(digitalocean.Config{}) }))
	return r
}

// guestDir finds the light VM's image: what BERTH_GUEST_DIR says, else the folder that goes with this berth, else none.
func guestDir(env driverEnv) string {
	if dir := env.getenv("BERTH_GUEST_DIR"); dir != "" {
		return dir
	}
	exe := env.exe
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	bin := filepath.Dir(exe)
	for _, dir := range []string{filepath.Join(bin, "guest"), filepath.Join(bin, "..", "share", "berth", "guest"), filepath.Join(bin, "..", "libexec", "berth", "guest")} {
		if _, err := os.Stat(filepath.Join(dir, seed.Manifest)); err == nil {
			return dir
		}
	}
	return ""
}

func (a *app) driversCmd() *cobra.Command {
	var format string
	var account accountOptions
	cmd := &cobra.Command{
		Use:   "drivers [DRIVER LIST]",
		Short: "List the drivers that make machines, or what one has to choose from",
		Long:  "List the drivers that make machines, or what one of them has to choose from, such as `drivers digitalocean sizes`, with prices.",
		Args:  cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return a.catalog(cmd, args, format, &account)
			}
			return a.listDrivers(cmd)
		},
		ValidArgsFunction: a.completeCatalog,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&format, "format", "f", "table", "table or json")
	account.addFlags(f, a.drivers(driverEnv{getenv: a.getenv}), func(d drivers.Driver) bool { _, ok := d.(drivers.Cataloger); return ok })
	return cmd
}

func (a *app) listDrivers(cmd *cobra.Command) error {
	m, err := a.manager(cmd)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.out, 5, 1, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tOPTIONS\tLISTS")
	for _, name := range m.Drivers.Names() {
		d, err := m.Drivers.Get(name)
		if err != nil {
			return err
		}
		lists := "-"
		if c, ok := d.(drivers.Cataloger); ok {
			lists = strings.Join(c.Catalogs(), ", ")
		}
		fmt.Fprintf(w, "%s\t%d, see %s create -d %s --help\t%s\n", name, len(d.Flags()), a.program(), name, lists)
	}
	return w.Flush()
}

// completeCatalog completes a driver, then one of its lists.
func (a *app) completeCatalog(_ *cobra.Command, args []string, _ string) (words []string, _ cobra.ShellCompDirective) {
	reg := a.drivers(driverEnv{getenv: a.getenv})
	for _, name := range reg.Names() {
		d, err := reg.Get(name)
		c, ok := d.(drivers.Cataloger)
		switch {
		case err != nil || !ok:
		case len(args) == 0:
			words = append(words, name)
		case len(args) == 1 && args[0] == name:
			words = append(words, c.Catalogs()...)
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}
