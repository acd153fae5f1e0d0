package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/machine"
)

var (
	errNoActive      = errors.New("No active host found")               //nolint:staticcheck // docker-machine's words
	errActiveTimeout = errors.New("Error getting active host: timeout") //nolint:staticcheck // docker-machine's words
)

func (a *app) activeCmd() *cobra.Command {
	timeout := defaultTimeout
	cmd := &cobra.Command{
		Use:   "active",
		Short: "Print which machine is active",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errTooManyNames
			}
			return a.active(cmd, time.Duration(timeout)*time.Second)
		},
	}
	cmd.Flags().IntVarP(&timeout, "timeout", "t", timeout, "Timeout in seconds")
	return cmd
}

// active asks only the machines that DOCKER_HOST or DOCKER_CONTEXT can mean.
func (a *app) active(cmd *cobra.Command, limit time.Duration) error {
	m, err := a.manager(cmd)
	if err != nil {
		return err
	}
	entries, err := m.Store.List()
	if err != nil {
		return err
	}
	var candidates []hostdb.Entry
	for _, e := range entries {
		if env, err := m.Env(e.Name); err == nil && a.selected(machine.Row{Name: e.Name, URL: env.Host, Machine: e.Machine}) {
			candidates = append(candidates, e)
		}
	}
	timedOut := false
	for _, ch := range m.Rows(cmd.Context(), candidates, limit) {
		row := <-ch
		if row.State == drivers.Running {
			a.printf("%s\n", row.Name)
			return nil
		}
		timedOut = timedOut || row.State == drivers.Timeout
	}
	if timedOut {
		return errActiveTimeout
	}
	return errNoActive
}
