package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// root is the command tree. Making it costs microseconds; whatever is slow waits until a command runs.
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
	root.AddCommand(
		a.activeCmd(), a.configCmd(), a.createCmd(), a.driversCmd(), a.envCmd(), a.gcCmd(), a.inspectCmd(), a.ipCmd(),
		a.killCmd(), a.lsCmd(), a.mountCmd(), a.provisionCmd(), a.regenerateCertsCmd(), a.resizeCmd(), a.restartCmd(), a.rmCmd(),
		a.scpCmd(), a.snapshotCmd(), a.sshCmd(), a.startCmd(), a.statusCmd(), a.stopCmd(), a.upgradeCmd(), a.urlCmd(), a.versionCmd(),
		a.vswitchCmd(), exitCodesTopic(),
	)
	return root
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
