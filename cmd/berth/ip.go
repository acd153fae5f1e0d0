package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
)

func (a *app) ipCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "ip [NAME...]",
		Short:             "Get the IP address of a machine",
		ValidArgsFunction: a.completeNames,
		RunE:              a.ip,
	}
}

// ip prints the addresses in the order of the names, also when some machines have none.
func (a *app) ip(cmd *cobra.Command, args []string) error {
	var mu sync.Mutex
	addresses := map[string]string{}
	err := a.each(cmd, args, func(ctx context.Context, m *machine.Manager, name string) error {
		e, err := a.reachable(ctx, m, name)
		if err != nil {
			return fmt.Errorf("Error getting IP address: %w", err) //nolint:staticcheck // docker-machine's words
		}
		mu.Lock()
		defer mu.Unlock()
		addresses[name] = e.Address
		return nil
	})
	if len(args) == 0 {
		args = []string{defaultMachine}
	}
	for _, name := range args {
		if addr, ok := addresses[name]; ok {
			a.printf("%s\n", addr)
		}
	}
	return err
}

// reachable is the address of a machine that runs. When nobody can tell whether it does, the store's answer is good enough, and
// a line on standard error says so.
func (a *app) reachable(ctx context.Context, m *machine.Manager, name string) (machine.Env, error) {
	e, doubt, err := m.Reachable(ctx, name)
	if doubt != nil {
		fmt.Fprintln(a.err, doubt)
	}
	return e, err
}
