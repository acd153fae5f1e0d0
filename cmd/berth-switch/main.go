// Command berth-switch is the virtual switch of a store's light VMs. berth starts it when a machine needs it and finds it beside
// itself; nobody else need. It is a program of its own as it carries a network stack, which berth would pay for at every start.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/getberth/berth/drivers/qemu/vswitch/server"
)

func main() {
	os.Exit(mainStatus())
}

func mainStatus() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if server.Main(ctx, os.Args[1:]) != nil {
		return 1
	}
	return 0
}
