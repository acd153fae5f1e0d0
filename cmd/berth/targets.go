package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
)

// defaultMachine is meant when no name is given, if it exists.
const defaultMachine = "default"

// Errors about names, in docker-machine's words.
var (
	errNoDefault    = fmt.Errorf("Error: No machine name(s) specified and no %q machine exists", defaultMachine) //nolint:staticcheck // see above
	errNoName       = errors.New("Error: Expected to get one or more machine names as arguments")                //nolint:staticcheck // see above
	errOneName      = errors.New("Error: Expected one machine name as an argument")                              //nolint:staticcheck // see above
	errTooManyNames = errors.New("Error: Too many arguments given")                                              //nolint:staticcheck // see above
)

// target is the one machine that a command is about.
func target(m *machine.Manager, args []string) (string, error) {
	if len(args) > 1 {
		return "", errOneName
	}
	names, err := targets(m, args)
	if err != nil {
		return "", err
	}
	return names[0], nil
}

// targets are the machines that a command is about, each once.
func targets(m *machine.Manager, args []string) ([]string, error) {
	if len(args) == 0 {
		if !m.Store.Exists(defaultMachine) {
			return nil, errNoDefault
		}
		return []string{defaultMachine}, nil
	}
	var names []string
	for _, name := range args {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// parallel is how many machines a command works on at the same time; more would run into the limits of cloud providers.
const parallel = 8

// parallelCreate is how many machines are created at the same time: most of it is waiting, and drivers keep to their limits.
const parallelCreate = 32

// each does something to all machines named and collects their errors, in the order of the names.
func (a *app) each(cmd *cobra.Command, args []string, do func(context.Context, *machine.Manager, string) error) error {
	m, err := a.manager(cmd)
	if err != nil {
		return err
	}
	names, err := targets(m, args)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := m.Record(name); err != nil {
			return err // as docker-machine: with a wrong name, nothing is done
		}
	}
	return a.eachNamed(cmd.Context(), m, names, do)
}

func (a *app) eachNamed(ctx context.Context, m *machine.Manager, names []string, do func(context.Context, *machine.Manager, string) error) error {
	return a.eachLimited(ctx, m, names, parallel, do)
}

// eachLimited works on at most limit machines at the same time.
func (a *app) eachLimited(ctx context.Context, m *machine.Manager, names []string, limit int, do func(context.Context, *machine.Manager, string) error) error {
	if r, ok := m.Report.(*reporter); ok {
		r.several = len(names) > 1
	}
	errs := make([]error, len(names))
	slots := make(chan struct{}, limit)
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer wg.Done()
			defer func() { <-slots }()
			errs[i] = do(ctx, m, name)
		}()
	}
	wg.Wait()
	all := &multierror.Error{ErrorFormat: oneErrorPerLine}
	return multierror.Append(all, errs...).ErrorOrNil()
}

// completeNames completes the names of machines.
func (a *app) completeNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	store, err := a.store(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	entries, err := store.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, e := range entries {
		if !slices.Contains(args, e.Name) {
			names = append(names, e.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeOne completes the name of a command that takes one.
func (a *app) completeOne(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeNames(cmd, args, word)
}
