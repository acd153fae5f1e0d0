package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
)

type scpOptions struct{ recursive, delta, quiet bool }

func (a *app) scpCmd() *cobra.Command {
	var o scpOptions
	cmd := &cobra.Command{
		Use:   "scp [[USER@]MACHINE:]PATH... [[USER@]MACHINE:]PATH",
		Short: "Copy files between machines",
		Long:  "Copy files to, from and between machines. A path without a machine, or with localhost:, is here.",
		RunE:  func(cmd *cobra.Command, args []string) error { return a.scp(cmd, args, o) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.recursive, "recursive", "r", false, "Copy files recursively (required to copy directories)")
	f.BoolVarP(&o.delta, "delta", "d", false, "Reduce amount of data sent over network by sending only the differences (uses rsync)")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Do not show the files that are copied")
	return cmd
}

// location is one argument of scp; machine is empty for a path here.
type location struct{ user, machine, path string }

func parseLocation(arg, goos string) location {
	if goos == "windows" && len(arg) > 1 && arg[1] == ':' { // C:\path
		return location{path: arg}
	}
	host, path, remote := strings.Cut(arg, ":")
	if !remote || strings.ContainsAny(host, `/\`) {
		return location{path: arg}
	}
	var l location
	if user, name, ok := strings.Cut(host, "@"); ok {
		l.user, host = user, name
	}
	if host == "localhost" {
		return location{path: path}
	}
	l.machine, l.path = host, path
	return l
}

func (a *app) scp(cmd *cobra.Command, args []string, o scpOptions) error {
	if len(args) < 2 {
		return &usageError{errors.New("Improper number of arguments")} //nolint:staticcheck // docker-machine's words
	}
	var all []location
	for _, arg := range args {
		all = append(all, parseLocation(arg, runtime.GOOS))
	}
	m, err := a.manager(cmd)
	if err != nil {
		return err
	}
	for _, l := range all {
		if l.machine == "" {
			continue
		}
		if _, err := m.Record(l.machine); err != nil {
			return fmt.Errorf("Error loading host: %w", err) //nolint:staticcheck // docker-machine's words
		}
	}
	if o.delta {
		return a.rsync(cmd.Context(), m, all, o)
	}
	return a.copy(cmd.Context(), m, all, o)
}

// copy opens each place once and copies through this process: two machines need not reach each other.
func (a *app) copy(ctx context.Context, m *machine.Manager, all []location, o scpOptions) error {
	opened := map[location]place{}
	defer func() {
		for _, p := range opened {
			p.close()
		}
	}()
	open := func(l location) (place, error) {
		key := location{user: l.user, machine: l.machine}
		if p, ok := opened[key]; ok {
			return p, nil
		}
		p, err := openPlace(ctx, m, key)
		if err == nil {
			opened[key] = p
		}
		return p, err
	}
	last := all[len(all)-1]
	dst, err := open(last)
	if err != nil {
		return err
	}
	c := &copier{dst: dst, recursive: o.recursive, progress: a.copyProgress(o)}
	for _, from := range all[:len(all)-1] {
		if c.src, err = open(from); err != nil {
			return err
		}
		if err := c.copyArg(from.path, last.path, len(all) > 2); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	return nil
}

// copyProgress names each file on a terminal.
func (a *app) copyProgress(o scpOptions) func(string, int64) {
	if o.quiet || a.global.quiet || !isTerminal(a.err) {
		return func(string, int64) {}
	}
	return func(name string, size int64) { fmt.Fprintf(a.err, "%s  %d bytes\n", name, size) }
}

// rsync runs the user's rsync with berth as its transport.
func (a *app) rsync(ctx context.Context, m *machine.Manager, all []location, o scpOptions) error {
	program, err := exec.LookPath("rsync")
	if err != nil {
		return withHint(errors.New("You must have a copy of the rsync binary locally to use the --delta option"), //nolint:staticcheck // docker-machine's words
			"Install rsync, or leave --delta out.")
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if all[len(all)-1].machine != "" && all[0].machine != "" {
		return withHint(errors.New("scp --delta: rsync cannot copy from one machine to another"), "Leave --delta out.")
	}
	// rsync knows quotes in -e, but no way to escape one within.
	args := []string{"-e", fmt.Sprintf("'%s' --storage-path '%s' ssh", exe, m.Store.Dir())}
	if !o.quiet {
		args = append(args, "--progress")
	}
	if o.recursive {
		args = append(args, "-r")
	}
	for _, l := range all {
		args = append(args, l.rsyncArg())
	}
	c := exec.CommandContext(ctx, program, args...)
	c.Stdin, c.Stdout, c.Stderr = a.in, a.out, a.err
	if err := c.Run(); err != nil {
		return fmt.Errorf("rsync: %w", err)
	}
	return nil
}

func (l location) rsyncArg() string {
	if l.machine == "" {
		if strings.HasPrefix(l.path, "-") {
			return "./" + l.path
		}
		return l.path
	}
	if l.user != "" {
		return l.user + "@" + l.machine + ":" + l.path
	}
	return l.machine + ":" + l.path
}
