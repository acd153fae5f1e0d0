// Command registry serves busybox:1.24 and busybox:latest, built from the host's static busybox, until it is killed: the demo's
// stand-in for Docker Hub. Image names may carry "library/" or not.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/getberth/berth/test/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("registry", flag.ExitOnError)
	addr := fs.String("addr", "127.0.0.1:5000", "address to listen on; port 0 means a free one")
	printAddr := fs.Bool("print-addr", false, "print the address, on a line, once it answers")
	verbose := fs.Bool("v", false, "log requests to stderr")
	if err := fs.Parse(args); err != nil {
		return err
	}
	o := images.RegistryOptions{Addr: *addr}
	if *verbose {
		o.Log = log.New(os.Stderr, "", log.LstdFlags)
	}
	reg, err := images.Serve(o)
	if err != nil {
		return err
	}
	defer reg.Close()
	if err := fill(reg); err != nil {
		return err
	}
	if *printAddr {
		fmt.Println(reg.Host())
	}
	<-ctx.Done()
	return nil
}

func fill(reg *images.Registry) error {
	img, err := images.Busybox()
	if err != nil {
		return err
	}
	for _, ref := range []string{"library/busybox:1.24", "library/busybox:latest", "busybox:1.24", "busybox:latest"} {
		if err := reg.Add(ref, img); err != nil {
			return fmt.Errorf("adding %s: %w", ref, err)
		}
	}
	return nil
}
