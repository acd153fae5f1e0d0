package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// normalizeArgs gives long flags that were written with one dash, as docker-machine takes them, their second one: "env -swarm
// master", "-debug ls". A word that is no long flag of the command stays as it is: it may be a bundle of short ones. What
// follows the name of ssh belongs to ssh, and what follows "--" to nobody here.
func normalizeArgs(root *cobra.Command, args []string) []string {
	out := make([]string, 0, len(args))
	cmd := root
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" || cmd.DisableFlagParsing {
			return append(out, args[i:]...)
		}
		if len(arg) < 2 || arg[0] != '-' {
			if sub := child(cmd, arg); sub != nil {
				cmd = sub
			}
			out = append(out, arg)
			continue
		}
		arg, takesNext := normalizeFlag(cmd, arg)
		out = append(out, arg)
		if takesNext && i+1 < len(args) {
			i++
			out = append(out, args[i])
		}
	}
	return out
}

func child(cmd *cobra.Command, name string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == name || sub.HasAlias(name) {
			return sub
		}
	}
	return nil
}

// normalizeFlag also tells whether the next argument is the flag's value.
func normalizeFlag(cmd *cobra.Command, arg string) (string, bool) {
	name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	if f := longFlag(cmd, name); f != nil && len(name) > 1 {
		return "--" + strings.TrimLeft(arg, "-"), !hasValue && f.NoOptDefVal == ""
	}
	if strings.HasPrefix(arg, "--") {
		return arg, false
	}
	return arg, bundleTakesNext(cmd, arg[1:])
}

// bundleTakesNext follows a bundle of short flags to the first that takes a value: if it ends there, the value comes next.
func bundleTakesNext(cmd *cobra.Command, bundle string) bool {
	for i := range len(bundle) {
		f := shortFlag(cmd, bundle[i:i+1])
		if f == nil {
			return false
		}
		if f.NoOptDefVal == "" {
			return i == len(bundle)-1
		}
	}
	return false
}

func longFlag(cmd *cobra.Command, name string) *pflag.Flag {
	if f := cmd.Flags().Lookup(name); f != nil {
		return f
	}
	if f := cmd.Root().PersistentFlags().Lookup(name); f != nil {
		return f
	}
	if name == "help" || name == "version" && cmd == cmd.Root() { // cobra adds them only when it runs
		return &pflag.Flag{Name: name, NoOptDefVal: "true"}
	}
	return nil
}

func shortFlag(cmd *cobra.Command, letter string) *pflag.Flag {
	if f := cmd.Flags().ShorthandLookup(letter); f != nil {
		return f
	}
	return cmd.Root().PersistentFlags().ShorthandLookup(letter)
}
