//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/engine/config"
)

// newDialStdio is for users who may become root but may not open the engine's socket themselves: SSH connects to it by this.
func newDialStdio() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "dial-stdio",
		Short: "Connect standard input and output to the engine's socket",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
			if err != nil {
				return fmt.Errorf("connecting to the engine: %w", err)
			}
			defer conn.Close()
			go func() { // ends with the process, whose standard input may stay open
				_, err := io.Copy(conn, cmd.InOrStdin())
				if err = errors.Join(err, conn.CloseWrite()); err != nil {
					conn.Close()
				}
			}()
			_, err = io.Copy(cmd.OutOrStdout(), conn)
			return err
		},
	}
	cmd.Flags().StringVar(&socket, "socket", config.Socket, "the engine's socket")
	return cmd
}
