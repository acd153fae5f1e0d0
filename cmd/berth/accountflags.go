package main

import (
	"github.com/spf13/pflag"

	"github.com/getberth/berth/drivers"
)

// accountOptions are the drivers' flags for commands that are about no machine.
type accountOptions struct {
	flags map[string][]drivers.Flag // by driver
}

func (o *accountOptions) addFlags(f *pflag.FlagSet, reg *drivers.Registry, wants func(drivers.Driver) bool) {
	o.flags = map[string][]drivers.Flag{}
	for _, name := range reg.Names() {
		d, err := reg.Get(name)
		if err != nil || !wants(d) {
			continue
		}
		for _, flag := range d.Flags() {
			if flag.Account {
				addDriverFlag(f, flag)
				o.flags[name] = append(o.flags[name], flag)
			}
		}
	}
}

// options are those of one driver that were given, by flag or variable.
func (o *accountOptions) options(f *pflag.FlagSet, driver string, getenv func(string) string) (drivers.Options, error) {
	given := drivers.Options{}
	for _, flag := range o.flags[driver] {
		if err := setFromEnv(f, flag, getenv); err != nil {
			return nil, err
		}
		if f.Changed(flag.Name) {
			given[flag.Name] = flagValue(f, flag)
		}
	}
	return given, nil
}
