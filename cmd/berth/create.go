package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/machine"
)

// defaultDriver makes machines on the computer itself.
const defaultDriver = "qemu"

type createOptions struct {
	driver string
	engine machine.EngineOptions
	sans   []string
	swarm  swarmOptions
	dryRun bool

	context bool
	flags   map[string]*driverFlags // by driver
}

func (a *app) createCmd() *cobra.Command {
	o := new(createOptions)
	cmd := &cobra.Command{
		Use:   "create NAME...",
		Short: "Create a machine, or several alike",
		Long: "Create a machine and install the container engine on it. A create that was interrupted goes on where it stopped\n" +
			"when the same command is given again.",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.create(cmd, args, o) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&o.driver, "driver", "d", defaultDriver, "Driver to create machine with [$MACHINE_DRIVER]")
	f.StringVar(&o.engine.InstallURL, "engine-install-url", machine.DefaultInstallURL, "Only the default: berth installs the engine that it brings along [$MACHINE_DOCKER_INSTALL_URL]")
	addEngineFlags(f, &o.engine)
	f.Lookup("engine-registry-mirror").Usage += " [$ENGINE_REGISTRY_MIRROR]"
	f.StringArrayVar(&o.sans, "tls-san", nil, "Support extra SANs for TLS certs")
	f.BoolVar(&o.dryRun, "dry-run", false, "Only check and show what would be done; nothing is written, here or there")
	f.BoolVar(&o.context, "context", false, "Also make a context of the docker client for the machine, which follows its address and certificates")
	o.swarm.addFlags(f)
	shared := f.FlagUsages()
	o.addDriverFlags(f, a.drivers(driverEnv{getenv: a.getenv}))
	completeEngineFlags(cmd)
	a.completeDriverFlags(cmd, o)
	cmd.SetUsageFunc(func(cmd *cobra.Command) error { return o.usage(cmd, shared) })
	_ = cmd.RegisterFlagCompletionFunc("driver", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.drivers(driverEnv{getenv: a.getenv}).Names(), cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

func (a *app) create(cmd *cobra.Command, args []string, o *createOptions) error {
	if len(args) == 0 {
		return &usageError{errors.New("Error: No machine name specified")} //nolint:staticcheck // docker-machine's words
	}
	o.fromEnv(cmd.Flags(), a.getenv)
	m, err := a.manager(cmd)
	if err != nil {
		return err
	}
	if err := o.swarm.check(); err != nil {
		return err
	}
	options, err := o.driverOptions(cmd.Flags(), m.Drivers, a.getenv)
	if err != nil {
		return err
	}
	names, err := targets(m, args)
	if err != nil {
		return err
	}
	return a.createAll(cmd.Context(), m, names, func(name string) machine.CreateOptions {
		return machine.CreateOptions{Name: name, Driver: o.driver, Options: options, Engine: o.engine, SANs: o.sans, DryRun: o.dryRun, Context: o.context}
	})
}

// createAll makes the machines at the same time, and tells how to use those that it made.
func (a *app) createAll(ctx context.Context, m *machine.Manager, names []string, options func(string) machine.CreateOptions) error {
	var made atomic.Int32
	err := a.eachLimited(ctx, m, names, parallelCreate, func(ctx context.Context, m *machine.Manager, name string) error {
		o := options(name)
		err := m.Create(ctx, o)
		if err == nil && o.DryRun {
			return nil
		}
		if err == nil {
			made.Add(1)
			m.Report.Note(name, fmt.Sprintf("To see how to connect your Docker Client to the Docker Engine running on this virtual machine, run: %s env %s", a.args[0], name))
			return nil
		}
		if len(names) > 1 {
			return fmt.Errorf("%s: %w", name, err)
		}
		return err
	})
	if err != nil && made.Load() > 0 {
		return &partlyError{err}
	}
	return err
}

// fromEnv reads the variables of the shared flags that were not given.
func (o *createOptions) fromEnv(f *pflag.FlagSet, getenv func(string) string) {
	text := func(flag, env string, dst *string) {
		if v := getenv(env); v != "" && !f.Changed(flag) {
			*dst = v
		}
	}
	text("driver", "MACHINE_DRIVER", &o.driver)
	text("engine-install-url", "MACHINE_DOCKER_INSTALL_URL", &o.engine.InstallURL)
	text("swarm-image", "MACHINE_SWARM_IMAGE", &o.swarm.image)
	if v := getenv("ENGINE_REGISTRY_MIRROR"); v != "" && !f.Changed("engine-registry-mirror") {
		o.engine.RegistryMirrors = strings.Split(v, ",")
	}
}

// usage shows the shared flags, then those of each driver.
func (o *createOptions) usage(cmd *cobra.Command, shared string) error {
	w := cmd.OutOrStderr()
	fmt.Fprintf(w, "Usage:\n  %s\n\nFlags:\n%s", cmd.UseLine(), shared)
	for _, name := range sortedKeys(o.flags) {
		if text := o.flags[name].set.FlagUsages(); text != "" {
			fmt.Fprintf(w, "\nFlags of the driver %s:\n%s", name, text)
		}
	}
	_, err := fmt.Fprintf(w, "\nGlobal Flags:\n%s", cmd.InheritedFlags().FlagUsages())
	return err
}

// swarmOptions are docker-machine's flags for classic Swarm.
type swarmOptions struct {
	swarm, master, experimental            bool
	image, discovery, strategy, host, addr string
	opts, joinOpts                         []string
	set                                    *pflag.FlagSet
}

// Defaults of docker-machine.
const (
	swarmImage    = "swarm:latest"
	swarmStrategy = "spread"
	swarmHost     = "tcp://0.0.0.0:3376"
)

func (o *swarmOptions) addFlags(f *pflag.FlagSet) {
	o.set = f
	f.BoolVar(&o.swarm, "swarm", false, "Not supported yet: configure the machine to join a Swarm cluster")
	f.BoolVar(&o.master, "swarm-master", false, "Not supported yet: configure the machine to be a Swarm master")
	f.StringVar(&o.discovery, "swarm-discovery", "", "Not supported yet: discovery service to use with Swarm")
	f.StringVar(&o.image, "swarm-image", swarmImage, "Docker image to use for Swarm [$MACHINE_SWARM_IMAGE]")
	f.StringVar(&o.strategy, "swarm-strategy", swarmStrategy, "Default scheduling strategy for Swarm")
	f.StringArrayVar(&o.opts, "swarm-opt", nil, "Not supported yet: arbitrary flags for the Swarm master")
	f.StringArrayVar(&o.joinOpts, "swarm-join-opt", nil, "Not supported yet: arbitrary flags for Swarm join")
	f.StringVar(&o.host, "swarm-host", swarmHost, "ip/socket to listen on for the Swarm master")
	f.StringVar(&o.addr, "swarm-addr", "", "Not supported yet: address to advertise for Swarm")
	f.BoolVar(&o.experimental, "swarm-experimental", false, "Not supported yet: Swarm's experimental features")
}

// check refuses what would set up a cluster; flags that only describe one which is not asked for change nothing.
func (o *swarmOptions) check() error {
	if o.discovery != "" && !strings.Contains(o.discovery, "://") {
		return fmt.Errorf("Error parsing swarm discovery: Swarm Discovery URL was in the wrong format: %s", o.discovery) //nolint:staticcheck // docker-machine's words
	}
	var asked []string
	for name, on := range map[string]bool{
		"--swarm": o.swarm, "--swarm-master": o.master, "--swarm-experimental": o.experimental, "--swarm-discovery": o.discovery != "",
		"--swarm-addr": o.addr != "", "--swarm-opt": len(o.opts) > 0, "--swarm-join-opt": len(o.joinOpts) > 0,
	} {
		if on {
			asked = append(asked, name)
		}
	}
	if len(asked) == 0 {
		return nil
	}
	return withHint(fmt.Errorf("%s: berth sets up no clusters yet; nothing was made", strings.Join(sorted(asked), ", ")),
		"To create the machine by itself, leave these flags out.")
}

// driverFlags are one driver's flags in the form of the command line.
type driverFlags struct {
	set  *pflag.FlagSet
	list []drivers.Flag
}

func (o *createOptions) addDriverFlags(f *pflag.FlagSet, reg *drivers.Registry) {
	o.flags = map[string]*driverFlags{}
	for _, name := range reg.Names() {
		d, err := reg.Get(name)
		if err != nil {
			continue // it was just listed
		}
		df := &driverFlags{set: pflag.NewFlagSet(name, pflag.ContinueOnError), list: d.Flags()}
		df.set.SetOutput(io.Discard)
		df.set.SortFlags = false
		for _, flag := range df.list {
			addDriverFlag(df.set, flag)
		}
		o.flags[name] = df
		f.AddFlagSet(df.set)
	}
}

func addDriverFlag(f *pflag.FlagSet, flag drivers.Flag) {
	usage := flag.Usage
	if flag.EnvVar != "" {
		usage += " [$" + flag.EnvVar + "]"
	}
	switch v := flag.Default.(type) {
	case int:
		f.Int(flag.Name, v, usage)
	case bool:
		f.Bool(flag.Name, v, usage)
	case []string:
		f.StringArray(flag.Name, v, usage)
	case string:
		f.String(flag.Name, v, usage)
	default: // no default: text
		f.String(flag.Name, "", usage)
	}
}

// driverOptions are the chosen driver's options that were set, by flag or by environment. A flag of another driver is an error.
func (o *createOptions) driverOptions(f *pflag.FlagSet, reg *drivers.Registry, getenv func(string) string) (drivers.Options, error) {
	if _, err := reg.Get(o.driver); err != nil {
		return nil, err
	}
	for name, df := range o.flags {
		for _, flag := range df.list {
			if name != o.driver && f.Changed(flag.Name) && o.flags[o.driver].set.Lookup(flag.Name) == nil {
				return nil, &usageError{fmt.Errorf("--%s is a flag of the driver %s, not of %s", flag.Name, name, o.driver)}
			}
		}
	}
	options := drivers.Options{}
	for _, flag := range o.flags[o.driver].list {
		if err := setFromEnv(f, flag, getenv); err != nil {
			return nil, err
		}
		if f.Changed(flag.Name) {
			options[flag.Name] = flagValue(f, flag)
		}
	}
	return options, nil
}

func setFromEnv(f *pflag.FlagSet, flag drivers.Flag, getenv func(string) string) error {
	if flag.EnvVar == "" || f.Changed(flag.Name) {
		return nil
	}
	v := getenv(flag.EnvVar)
	if v == "" {
		return nil
	}
	values := []string{v}
	if _, many := flag.Default.([]string); many {
		values = strings.Split(v, ",")
	}
	for _, v := range values {
		if err := f.Set(flag.Name, v); err != nil {
			return fmt.Errorf("$%s: %w", flag.EnvVar, err)
		}
	}
	return nil
}

func flagValue(f *pflag.FlagSet, flag drivers.Flag) any {
	switch flag.Default.(type) {
	case int:
		v, _ := f.GetInt(flag.Name)
		return v
	case bool:
		v, _ := f.GetBool(flag.Name)
		return v
	case []string:
		v, _ := f.GetStringArray(flag.Name)
		return v
	}
	v, _ := f.GetString(flag.Name)
	return v
}
