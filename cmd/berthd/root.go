//go:build linux

package main

import (
	"context"
	"net"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/guest/pid1"
	"github.com/getberth/berth/guest/sshd"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "berthd",
		Short:         "The container engine of berth's machines",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newServe(), newCSR(), newVersion(), newInit(), newGuestSSH())
	return root
}

func newInit() *cobra.Command {
	return &cobra.Command{
		Use:    "init",
		Short:  "Boot the light VM (process 1 only)",
		Hidden: true,
		Args:   cobra.ArbitraryArgs, // the kernel passes on what it does not know
		RunE:   func(cmd *cobra.Command, _ []string) error { return pid1.Main(cmd.Context()) },
	}
}

func newGuestSSH() *cobra.Command {
	return &cobra.Command{
		Use:    pid1.SSHCommand,
		Short:  "Serve SSH in the light VM",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return pid1.ServeSSH(cmd.Context(), cmd.InOrStdin(), func(ctx context.Context, l net.Listener, key []byte, authorized []string) error {
				return sshd.Serve(ctx, l, key, authorized)
			})
		},
	}
}
