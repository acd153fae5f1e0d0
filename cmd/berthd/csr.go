//go:build linux

package main

import (
	"github.com/spf13/cobra"

	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/engine/config/serverkey"
)

// newCSR makes the server's key where it is to stay, on the machine, and asks for a certificate of it.
func newCSR() *cobra.Command {
	var keyFile string
	var names []string
	cmd := &cobra.Command{
		Use:   "csr",
		Short: "Print a signing request for the engine's TLS key, which is made if there is none",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := serverkey.Load(keyFile)
			if err != nil {
				return err
			}
			request, err := serverkey.Request(key, names...)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(request)
			return err
		},
	}
	cmd.Flags().StringVar(&keyFile, "key", config.ServerKey, "file of the private key")
	cmd.Flags().StringArrayVar(&names, "san", nil, "name or IP address that clients use (may be repeated)")
	return cmd
}
