// Command berth makes and manages machines that run a container engine. It is a drop-in for docker-machine, also by that name.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	os.Exit(mainStatus())
}

// mainStatus ties the program to its process. The first SIGINT or SIGTERM asks what runs to end; the second ends the process.
func mainStatus() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		args: os.Args, getenv: os.Getenv, now: time.Now,
		drivers: allDrivers,
	}
	return a.run(ctx)
}
