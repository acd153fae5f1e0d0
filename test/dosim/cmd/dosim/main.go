//go:build linux

// Command dosim runs a simulator of DigitalOcean in the foreground. Once ready it prints one line for a shell to evaluate; all else
// goes to standard error. It ends, with all its droplets, on Ctrl-C.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/getberth/berth/test/dosim"
	"github.com/getberth/berth/test/dosim/vm"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "dosim:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	o := dosim.Options{Log: os.Stderr}
	machines := flag.Bool("machines", true, "boot droplets; without, they exist in the API only")
	quiet := flag.Bool("quiet", false, "do not log requests")
	flag.StringVar(&o.Listen, "listen", "127.0.0.1:0", "address of the API")
	flag.StringVar(&o.Token, "token", "", "the access token (random)")
	flag.DurationVar(&o.ActiveAfter, "active-after", 0, "what a droplet takes to become active")
	flag.DurationVar(&o.ActionAfter, "action-after", 0, "what an action takes to complete")
	flag.Parse()
	if *quiet {
		o.Log = nil
	}
	if *machines {
		c, err := vm.Open(ctx, os.Stderr)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Close()) }()
		o.Machines = c
		fmt.Fprintf(os.Stderr, "droplets are in %s and see this host as %s\n", c.Public(), c.Host())
	}
	s, err := dosim.Start(ctx, o)
	if err != nil {
		return err
	}
	fmt.Printf("export DIGITALOCEAN_API_URL=%s DIGITALOCEAN_ACCESS_TOKEN=%s\n", s.URL, s.Token)
	<-ctx.Done()
	return s.Close()
}
