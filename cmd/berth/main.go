// How many processors there are is asked once: to follow it is for servers, and costs a goroutine at each start.

//go:debug updatemaxprocs=0

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

// mainStatus ties the program to its process. The first SIGINT or SIGTERM asks what runs to end; the second ends the process, and
// the first does if nothing can be cut short.
func mainStatus() int {
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		args: os.Args, getenv: os.Getenv, now: time.Now,
		drivers: allDrivers,
	}
	ctx := context.Background()
	if !a.offline() {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		context.AfterFunc(ctx, stop)
	}
	return a.run(ctx)
}
