package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
)

// commands are all that berth has. Each is made when it is asked for: making all takes longer than what most of them do, and a
// shell's prompt may wait for the answer.
func (a *app) commands() []command {
	return []command{
		{"active", a.activeCmd}, {"config", a.configCmd}, {"create", a.createCmd}, {"drivers", a.driversCmd}, {"env", a.envCmd},
		{"inspect", a.inspectCmd}, {"ip", a.ipCmd}, {"kill", a.killCmd}, {"ls", a.lsCmd}, {"mount", a.mountCmd},
		{"provision", a.provisionCmd}, {"regenerate-certs", a.regenerateCertsCmd}, {"restart", a.restartCmd}, {"rm", a.rmCmd},
		{"scp", a.scpCmd}, {"set", a.setCmd}, {"ssh", a.sshCmd}, {"ssh-config", a.sshConfigCmd},
		{"start", a.startCmd}, {"status", a.statusCmd}, {"stop", a.stopCmd},
		{"upgrade", a.upgradeCmd}, {"url", a.urlCmd}, {"version", a.versionCmd}, {"exit-codes", exitCodesTopic},
		{"gc", a.gcCmd}, {"resize", a.resizeCmd}, {"rename", a.renameCmd}, {"snapshot", a.snapshotCmd},
		{machine.TunnelCommand, a.tunnelCmd},
	}
}

type command struct {
	name string
	make func() *cobra.Command
}

// offline tells a command line that is answered from the store alone and at once: listening for signals would take longer.
func (a *app) offline() bool { return len(a.args) > 1 && (a.args[1] == "env" || a.args[1] == "config") }

// root is the command tree, as far as the command line needs it: one that begins with a command's name needs no other command.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:     a.program(),
		Short:   "Create and manage machines running a container engine.",
		Long:    "Create and manage machines running a container engine that speaks the Docker API.",
		Version: versionText(),
		Args:    cobra.ArbitraryArgs,
		// Global flags end where ssh begins, which takes its arguments as they are.
		TraverseChildren: true,
		SilenceErrors:    true,
		SilenceUsage:     true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetVersionTemplate(root.Name() + " version {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	a.globalFlags(root)
	a.addCommands(root)
	return root
}

func (a *app) addCommands(root *cobra.Command) {
	all := a.commands()
	for _, c := range all {
		if len(a.args) > 1 && a.args[1] == c.name {
			root.CompletionOptions.DisableDefaultCmd = true
			root.SetHelpCommand(&cobra.Command{Hidden: true}) // cobra would make its own
			root.AddCommand(c.make())
			return
		}
	}
	for _, c := range all {
		root.AddCommand(c.make())
	}
}

func (a *app) globalFlags(root *cobra.Command) {
	f, g := root.PersistentFlags(), &a.global
	f.BoolVarP(&g.debug, "debug", "D", false, "Enable debug mode [$MACHINE_DEBUG]")
	f.BoolVar(&g.quiet, "quiet", false, "Do not tell the steps of what is done")
	f.StringVarP(&g.storage, "storage-path", "s", "", "Where machines are stored [$MACHINE_STORAGE_PATH, $BERTH_HOME]")
	f.StringVar(&g.tls.CACert, "tls-ca-cert", "", "CA to verify remotes against [$MACHINE_TLS_CA_CERT]")
	f.StringVar(&g.tls.CAKey, "tls-ca-key", "", "Private key to generate certificates [$MACHINE_TLS_CA_KEY]")
	f.StringVar(&g.tls.ClientCert, "tls-client-cert", "", "Client cert to use for TLS [$MACHINE_TLS_CLIENT_CERT]")
	f.StringVar(&g.tls.ClientKey, "tls-client-key", "", "Private key used in client TLS auth [$MACHINE_TLS_CLIENT_KEY]")
	f.BoolVar(&g.nativeSSH, "native-ssh", false, "Accepted for docker-machine's sake: berth has no other SSH than its own")
	f.StringVar(&g.ignored, "github-api-token", "", "Accepted for docker-machine's sake: berth does not ask GitHub")
	f.StringVar(&g.ignored, "bugsnag-api-token", "", "Accepted for docker-machine's sake: berth sends no reports")
	root.Flags().SortFlags = false
}

// unknownCommand says so in docker-machine's words.
func unknownCommand(root *cobra.Command, name string) error {
	text := fmt.Sprintf("%[1]s: '%[2]s' is not a %[1]s command. See '%[1]s --help'.", root.Name(), name)
	if near := root.SuggestionsFor(name); len(near) > 0 {
		text += "\nDid you mean " + strings.Join(near, " or ") + "?"
	}
	return fmt.Errorf("%s", text)
}

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: strings.TrimRight(exitCodesHelp, "\n")}
}
