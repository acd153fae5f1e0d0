//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// options are the flags.
type options struct {
	bin      string // folder of what `make guest` builds
	out      string // file of the report; empty for none
	boots    int    // rounds of making a VM
	runs     int    // rounds of docker run
	idle     int    // containers whose memory is measured
	starts   int    // rounds of berth env
	lists    int    // rounds of berth ls
	pulls    int    // rounds of pulling and loading an image
	only     string // names of the parts to run, with commas
	installs int    // rounds of installing an engine on a Debian
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder of the built programs and of the guest image")
	flag.StringVar(&o.out, "out", "docs/benchmarks.md", "file for the report; empty for none. It is written only when all parts ran")
	flag.IntVar(&o.boots, "boots", 3, "rounds of booting a light VM")
	flag.IntVar(&o.runs, "runs", 21, "rounds of docker run")
	flag.IntVar(&o.idle, "idle", 10, "idle containers whose memory is measured")
	flag.IntVar(&o.starts, "starts", 51, "rounds of berth env")
	flag.IntVar(&o.lists, "lists", 5, "rounds of berth ls")
	flag.IntVar(&o.pulls, "pulls", 5, "rounds of pulling and of loading an image of 300 MB")
	flag.IntVar(&o.installs, "installs", 2, "rounds of installing an engine on a Debian")
	flag.StringVar(&o.only, "only", "", "parts to run, with commas: "+strings.Join(names(), ", "))
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// part is a group of figures that are measured together.
type part struct {
	name    string
	measure func(context.Context, *bench) ([]figure, error)
}

func parts() []part {
	return []part{
		{"sizes", measureSizes},
		{"env", measureEnv},
		{"ls", measureList},
		{"creates", measureCreates},
		{"engine", engines(measureResident, measureRuns, measureIdle)},
		{"images", engines(measureImages)},
		{"vm", measureVM},
		{"install", measureInstall},
	}
}

func names() (all []string) {
	for _, p := range parts() {
		all = append(all, p.name)
	}
	return all
}

// bench is what all parts share.
type bench struct {
	options
	dir string // for files; short, since paths of sockets are bounded
}

func run(ctx context.Context, o options) (err error) {
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	for _, f := range []string{"berth", "berth-full", "berth-switch", "berthd", "bareinit", "guest/manifest.json"} {
		if _, err := os.Stat(filepath.Join(o.bin, f)); err != nil {
			return fmt.Errorf("%w\nhint: run `make bench`", err)
		}
	}
	b := &bench{options: o}
	if b.dir, err = os.MkdirTemp("", "bb"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	var figures []figure
	for _, p := range parts() {
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), p.name) {
			continue
		}
		got, err := p.measure(ctx, b)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", p.name, err)
		}
		figures = append(figures, got...)
	}
	fmt.Print("\n", table(figures))
	if o.out == "" || o.only != "" {
		return nil
	}
	return writeReport(ctx, o.out, figures)
}

// progress tells on stderr what is being measured.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
