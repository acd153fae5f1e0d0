package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
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
	var vars []variable
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
		// The client would speak TLS to a local socket, too.
		local := e.CertPath == ""
		vars = append(vars, variable{name: "DOCKER_TLS_VERIFY", value: "1", unset: local}, variable{name: "DOCKER_HOST", value: e.Host},
			variable{name: "DOCKER_CERT_PATH", value: e.CertPath, unset: local}, variable{name: "DOCKER_MACHINE_NAME", value: e.Name})
		if o.context {
			if err := m.KeepContext(cmd.Context(), name); err != nil {
				return err
			}
			vars = contextVariables(e)
		}
		if runtime.GOOS == "windows" {
			vars = append(vars, variable{name: "COMPOSE_CONVERT_WINDOWS_PATHS", value: "true"})
		}
		if o.noProxy {
			vars = append(vars, withAddress(noProxy(a.getenv), e.Address))
		}
	} else {
		vars = append(vars, variable{name: "DOCKER_TLS_VERIFY"}, variable{name: "DOCKER_HOST"},
			variable{name: "DOCKER_CERT_PATH"}, variable{name: "DOCKER_MACHINE_NAME"})
		if o.context {
			vars = append(vars, variable{name: "DOCKER_CONTEXT"})
		}
		if o.noProxy {
			vars = append(vars, noProxy(a.getenv))
		}
	}
	name := o.shell
	if name == "" {
		var err error
		if name, err = detectShell(a.getenv); err != nil {
			return err
		}
	}
	writeEnv(a.out, shellNamed(name), vars, o.unset, a.args)
	return nil
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
func contextVariables(e machine.Env) []variable {
	return []variable{
		{name: "DOCKER_TLS_VERIFY", unset: true}, {name: "DOCKER_HOST", unset: true}, {name: "DOCKER_CERT_PATH", unset: true},
		{name: "DOCKER_CONTEXT", value: e.Name}, {name: "DOCKER_MACHINE_NAME", value: e.Name},
	}
}

type variable struct {
	name, value string
	unset       bool
}

// noProxy is the user's list of hosts that are reached without a proxy: the lower-case variable if it says anything.
func noProxy(getenv func(string) string) variable {
	if v := getenv("no_proxy"); v != "" {
		return variable{name: "no_proxy", value: v}
	}
	return variable{name: "NO_PROXY", value: getenv("NO_PROXY")}
}

// withAddress adds an address to the list unless it is there.
func withAddress(v variable, address string) variable {
	switch {
	case v.value == "":
		v.value = address
	case !slices.Contains(strings.Split(v.value, ","), address):
		v.value += "," + address
	}
	return v
}

// shell is how variables are set in one family of shells.
type shell struct {
	set, unset string // formats; set takes name and value
	quote      func(string) string
	comment    string
	hint       string // format; takes the command line
	end        string // of a command
}

// unsetAmong is unset between assignments: where a shell takes the output as words of one line, it needs an end.
func (s shell) unsetAmong() string { return strings.TrimRight(s.unset, ";\n") + s.end + "\n" }

// shellNamed knows six families; whatever it does not know is taken for a POSIX shell.
func shellNamed(name string) shell {
	switch name {
	case "fish":
		return shell{set: "set -gx %s \"%s\";\n", unset: "set -e %s;\n", quote: escape(`\"$`, `\`), comment: "#", hint: "eval (%s)", end: ";"}
	case "powershell", "pwsh":
		return shell{set: "$Env:%s = \"%s\"\n", unset: "Remove-Item Env:\\\\%s\n", quote: escape("`\"$", "`"), comment: "#", hint: "& %s | Invoke-Expression"}
	case "cmd":
		return shell{set: "SET %s=%s\n", unset: "SET %s=\n", quote: asIs, comment: "REM", hint: "\t@FOR /f \"tokens=*\" %%i IN ('%s') DO @%%i"}
	case "tcsh", "csh":
		return shell{set: "setenv %s \"%s\";\n", unset: "unsetenv %s;\n", quote: asIs, comment: ":", hint: "eval `%s`", end: ";"}
	case "emacs":
		return shell{
			set: "(setenv \"%s\" \"%s\")\n", unset: "(setenv \"%s\" nil)\n", quote: escape(`\"`, `\`), comment: ";;",
			hint: "(with-temp-buffer (shell-command \"%s\" (current-buffer)) (eval-buffer))",
		}
	}
	return shell{set: "export %s=\"%s\"\n", unset: "unset %s\n", quote: quotePOSIX, comment: "#", hint: "eval $(%s)", end: ";"}
}

func asIs(s string) string { return s }

// escape puts the escape character before each of the special ones, inside double quotes.
func escape(special, with string) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for _, r := range s {
			if strings.ContainsRune(special, r) {
				b.WriteString(with)
			}
			b.WriteRune(r)
		}
		return b.String()
	}
}

// quotePOSIX escapes what is special inside double quotes. A backslash is so only before these characters: paths of Windows
// stay as docker-machine prints them.
func quotePOSIX(s string) string {
	var b strings.Builder
	for i := range len(s) {
		next := i + 1
		special := strings.IndexByte("\"$`", s[i]) >= 0
		special = special || s[i] == '\\' && (next == len(s) || strings.IndexByte("\"$`\\", s[next]) >= 0)
		if special {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// writeEnv prints the assignments, then how to have a shell take them. args is the whole command line.
func writeEnv(w io.Writer, sh shell, vars []variable, unset bool, args []string) {
	b := bufio.NewWriter(w)
	defer b.Flush()
	for _, v := range vars {
		if v.unset && !unset {
			fmt.Fprintf(b, sh.unsetAmong(), v.name)
			continue
		}
		if unset {
			fmt.Fprintf(b, sh.unset, v.name)
			continue
		}
		fmt.Fprintf(b, sh.set, v.name, sh.quote(v.value))
	}
	fmt.Fprintf(b, "%s Run this command to configure your shell: \n", sh.comment)
	fmt.Fprintf(b, sh.comment+" "+sh.hint+"\n", commandLine(args))
}

// commandLine is what the user typed; the program is quoted when a shell would not take it for one word.
func commandLine(args []string) string {
	line := slices.Clone(args)
	if strings.ContainsAny(line[0], ` \`) {
		line[0] = `"` + line[0] + `"`
	}
	return strings.Join(line, " ")
}
