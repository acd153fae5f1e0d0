package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/digitalocean"
	"github.com/getberth/berth/drivers/generic"
	"github.com/getberth/berth/drivers/none"
	"github.com/getberth/berth/drivers/qemu"
	"github.com/getberth/berth/guest/seed"
)

// allDrivers is the one list of drivers that this berth has.
func allDrivers(env driverEnv) *drivers.Registry {
	r := new(drivers.Registry)
	// One for all machines of this process: they share the limits of the account.
	r.Add(digitalocean.Name, sync.OnceValue(func() drivers.Driver { return digitalocean.New(digitalocean.Config{}) }))
	r.Add(qemu.Name, func() drivers.Driver {
		return qemu.New(qemu.Config{GuestDir: guestDir(env), Helper: switchProgram(env), Store: env.store})
	})
	r.Add(generic.Name, func() drivers.Driver { return generic.New(genericConfig()) })
	r.Add(none.Name, func() drivers.Driver { return none.New() })
	return r
}

// genericConfig tells the driver where the user's ssh keeps keys.
func genericConfig() generic.Config {
	c := generic.Config{KnownHosts: []string{"/etc/ssh/ssh_known_hosts"}}
	if home, err := os.UserHomeDir(); err == nil {
		c.Home = home
		c.KnownHosts = append(c.KnownHosts, filepath.Join(home, ".ssh", "known_hosts"))
	}
	return c
}

// guestDir finds the light VM's image: what BERTH_GUEST_DIR says, else the folder that goes with this berth, else none.
func guestDir(env driverEnv) string {
	if dir := env.getenv("BERTH_GUEST_DIR"); dir != "" {
		return dir
	}
	bin := env.bin()
	for _, dir := range []string{filepath.Join(bin, "guest"), filepath.Join(bin, "..", "share", "berth", "guest"), filepath.Join(bin, "..", "libexec", "berth", "guest")} {
		if _, err := os.Stat(filepath.Join(dir, seed.Manifest)); err == nil {
			return dir
		}
	}
	return ""
}

// switchProgram finds the virtual switch: what BERTH_SWITCH says, else the program that goes with this berth, else none.
func switchProgram(env driverEnv) []string {
	if program := env.getenv("BERTH_SWITCH"); program != "" {
		return []string{program}
	}
	name := "berth-switch"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	bin := env.bin()
	for _, dir := range []string{bin, filepath.Join(bin, "..", "libexec", "berth"), filepath.Join(bin, "..", "libexec")} {
		program := filepath.Join(dir, name)
		if fi, err := os.Stat(program); err == nil && fi.Mode().IsRegular() {
			return []string{program}
		}
	}
	return nil
}

// bin is the folder of berth itself.
func (e driverEnv) bin() string {
	if real, err := filepath.EvalSymlinks(e.exe); err == nil {
		return filepath.Dir(real)
	}
	return filepath.Dir(e.exe)
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
