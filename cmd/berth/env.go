package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
	"github.com/getberth/berth/machine/shellenv"
)

type envOptions struct {
	shell                          string
	swarm, unset, noProxy, context bool
}

func (a *app) envCmd() *cobra.Command {
	var o envOptions
	cmd := &cobra.Command{
		Use:               "env [NAME]",
		Short:             "Display the commands to set up the environment for the Docker client",
		Long:              "Display the commands to set up the environment for the Docker client. The answer comes from the store: the machine is not asked.",
		ValidArgsFunction: a.completeOne,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.env(cmd, args, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.swarm, "swarm", false, "Display the Swarm config instead of the Docker daemon")
	f.StringVar(&o.shell, "shell", "", "Force environment to be configured for a specified shell: [fish, cmd, powershell, tcsh, emacs], default is auto-detect")
	f.BoolVarP(&o.unset, "unset", "u", false, "Unset variables instead of setting them")
	f.BoolVar(&o.noProxy, "no-proxy", false, "Add machine IP to NO_PROXY environment variable")
	f.BoolVar(&o.context, "context", false, "Select the machine by a context of the docker client, which is made if need be")
	cmd.MarkFlagsMutuallyExclusive("context", "swarm")
	_ = cmd.RegisterFlagCompletionFunc("shell", cobra.FixedCompletions(
		[]string{"bash", "cmd", "emacs", "fish", "powershell", "sh", "tcsh", "zsh"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

var errUnsetName = errors.New("Error: Expected no machine name when the -u flag is present") //nolint:staticcheck // docker-machine's words

func (a *app) env(cmd *cobra.Command, args []string, o envOptions) error {
	if o.unset && len(args) > 0 {
		return errUnsetName
	}
	var vars []shellenv.Variable
	if !o.unset {
		m, err := a.manager(cmd)
		if err != nil {
			return err
		}
		name, err := target(m, args)
		if err != nil {
			return err
		}
		e, err := a.clientEnv(cmd.Context(), m, name, o.swarm)
		if err != nil {
			return err
		}
		vars = shellenv.Client(e.Name, e.Host, e.CertPath)
		if o.context {
			if err := m.KeepContext(cmd.Context(), name); err != nil {
				return err
			}
			vars = contextVariables(e)
		}
		vars = append(vars, shellenv.Platform(runtime.GOOS)...)
		if o.noProxy {
			vars = append(vars, withAddress(noProxy(a.getenv), e.Address))
		}
	} else {
		vars = shellenv.Client("", "", "")
		if o.context {
			vars = append(vars, shellenv.Variable{Name: "DOCKER_CONTEXT"})
		}
		if o.noProxy {
			vars = append(vars, noProxy(a.getenv))
		}
	}
	name := o.shell
	if name == "" {
		var err error
		if name, err = shellenv.Detect(a.getenv); err != nil {
			return withHint(err, "Tell it with --shell, e.g. --shell bash.")
		}
	}
	return shellenv.Write(a.out, name, vars, o.unset, a.args)
}

// clientEnv is how a client reaches the machine, or the swarm that it is the master of.
func (a *app) clientEnv(ctx context.Context, m *machine.Manager, name string, swarm bool) (machine.Env, error) {
	e, err := m.Env(name)
	if err == nil && swarm {
		err = fmt.Errorf("%q is not a swarm master. The --swarm flag is intended for use with swarm masters", name)
	}
	if err == nil && e.CertPath == "" {
		err = m.OpenTunnel(ctx, name)
	}
	return e, err
}

// contextVariables select a machine by its context; the client prefers an address in the environment.
func contextVariables(e machine.Env) []shellenv.Variable {
	return []shellenv.Variable{
		{Name: "DOCKER_TLS_VERIFY", Unset: true}, {Name: "DOCKER_HOST", Unset: true}, {Name: "DOCKER_CERT_PATH", Unset: true},
		{Name: "DOCKER_CONTEXT", Value: e.Name}, {Name: "DOCKER_MACHINE_NAME", Value: e.Name},
	}
}

// noProxy is the user's list of hosts that are reached without a proxy: the lower-case variable if it says anything.
func noProxy(getenv func(string) string) shellenv.Variable {
	if v := getenv("no_proxy"); v != "" {
		return shellenv.Variable{Name: "no_proxy", Value: v}
	}
	return shellenv.Variable{Name: "NO_PROXY", Value: getenv("NO_PROXY")}
}

// withAddress adds an address to the list unless it is there.
func withAddress(v shellenv.Variable, address string) shellenv.Variable {
	switch {
	case v.Value == "":
		v.Value = address
	case !slices.Contains(strings.Split(v.Value, ","), address):
		v.Value += "," + address
	}
	return v
}
