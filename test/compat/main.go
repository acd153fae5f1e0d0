// Command compat runs other people's test suites against berthd and compares the outcome with lists kept next to it:
// SUITE.pass names the tests that pass, one a line, SUITE.known those that do not, each with the reason, and SUITE.dockerd those
// that pass on dockerd run in the same way. A test of the first list that fails fails the run.
//
// The suites are built from the Go module proxy at pinned versions, into bin/compat. Each runs against an engine of its own, which
// test/compat/engine starts; COMPAT_ENGINE names another command that takes a command to run and gives it DOCKER_HOST, so that the
// same tests can be run against any engine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
		os.Exit(1)
	}
}

type options struct {
	ci     bool
	update bool
	peer   bool
	inside string
}

func run(ctx context.Context, args []string) error {
	var o options
	fs := flag.NewFlagSet("compat", flag.ExitOnError)
	fs.BoolVar(&o.ci, "ci", false, "run the subset for each change only")
	fs.BoolVar(&o.update, "update", false, "write the lists anew from the outcome; reasons that are there stay")
	fs.BoolVar(&o.peer, "dockerd", false, "the engine is dockerd: write SUITE.dockerd, compare with nothing")
	fs.StringVar(&o.inside, "inside", "", "run a suite against DOCKER_HOST; used by compat itself")
	fs.Usage = func() {
		fmt.Fprintln(fs.Output(), "usage: compat [-ci] [-update] [-dockerd] [SUITE…], run from the root of the tree")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	if o.inside != "" {
		return inside(ctx, o.inside, fs.Args())
	}
	chosen := choose(suites(), fs.Args(), o.ci)
	if len(chosen) == 0 {
		return fmt.Errorf("no such suite: %s", strings.Join(fs.Args(), " "))
	}
	return runSuites(ctx, o, chosen)
}

// runSuites runs one after the other and prints the table.
func runSuites(ctx context.Context, o options, chosen []suite) error {
	h, err := newHouse()
	if err != nil {
		return err
	}
	var table []row
	for _, s := range chosen {
		r, err := h.runSuite(ctx, o, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		table = append(table, r)
	}
	printTable(os.Stdout, table)
	var bad []string
	for _, r := range table {
		bad = append(bad, r.problems()...)
	}
	if len(bad) > 0 && !o.update && !o.peer {
		return errors.New("not as the lists say:\n  " + strings.Join(bad, "\n  "))
	}
	return nil
}

// runSuite runs one suite; what should have passed and did not gets a second try, for machines that are busy.
func (h *house) runSuite(ctx context.Context, o options, s suite) (row, error) {
	want, err := h.readLists(s)
	if err != nil {
		return row{}, err
	}
	if err := h.build(ctx, s); err != nil {
		return row{}, err
	}
	fmt.Fprintln(os.Stderr, "running", s.name)
	got, err := h.start(ctx, s, "")
	if err != nil {
		return row{}, err
	}
	if again := want.missed(got); len(again) > 0 && !o.peer {
		fmt.Fprintln(os.Stderr, "again:", strings.Join(again, " "))
		second, err := h.start(ctx, s, "^("+strings.Join(again, "|")+")$")
		if err != nil {
			return row{}, err
		}
		got.merge(second)
	}
	switch {
	case o.peer:
		want.dockerd = got.passed()
		err = h.writePeer(s, want)
	case o.update:
		want.update(got)
		err = h.writeLists(s, want)
	}
	return row{suite: s.name, want: want, got: got}, err
}
