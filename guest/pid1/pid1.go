//go:build linux

// Package pid1 is the init of the light VM: it mounts, loads modules, makes and grows the data disk, brings the network up,
// keeps the engine and the SSH server running, reaps, and ends it all in order. It is kept free of what could take it down:
// whatever speaks to the outside runs in a process of its own.
package pid1

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/guest/seed"
)

// Main boots the guest and does not return but by ending the machine.
func Main(ctx context.Context) error {
	if os.Getpid() != 1 {
		return errors.New("this is for process 1 of berth's light VM only")
	}
	i := &initd{log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime}))}
	i.children.log = i.log
	devices, err := watchDevices()
	if err != nil {
		return err
	}
	i.devices = devices
	power := watchPower(ctx, i.log, devices)
	if err := i.boot(ctx); err != nil {
		// What cannot boot stays up for a moment of inspection only if somebody may reach it; the host reads why.
		i.log.Error("boot failed", "error", err)
		i.control.send(seed.Event{Event: "failed", Error: err.Error()})
		i.end(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	i.end(<-power)
	return nil
}

// withoutTime drops the time: the console has the kernel's, and at first boot the clock is not set yet.
func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// initd is the state of the running init.
type initd struct {
	log      *slog.Logger
	children children
	control  control
	devices  *hotplug
	seed     seed.Seed
}

// boot does what must be done in order and starts what can go side by side.
func (i *initd) boot(ctx context.Context) error {
	if err := mountAll(); err != nil {
		return err
	}
	go i.children.reap()
	modules, err := bootModules()
	if err != nil {
		return err
	}
	early, late := splitModules(modules)
	loadModules(i.log, early)
	lateLoaded := make(chan struct{})
	go func() {
		defer close(lateLoaded)
		loadModules(i.log, late)
	}()
	go i.control.open(ctx, i.log, i.devices)
	if i.seed, err = readSeed(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(i.seed.Hostname)); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	if err := i.sideBySide(ctx); err != nil {
		return err
	}
	if err := i.startSSH(ctx); err != nil {
		return err
	}
	<-lateLoaded
	if err := waitPort(ctx, i.devices, seed.PortsPort); err != nil {
		i.log.Warn("published ports are not reported to the host", "error", err)
	}
	return i.startEngine(ctx)
}

// sideBySide prepares the disk and the network at once: each waits for something else.
func (i *initd) sideBySide(ctx context.Context) error {
	var wg sync.WaitGroup
	var diskErr, netErr error
	wg.Go(func() { diskErr = prepareData(ctx, i.log, &i.children, i.seed) })
	wg.Go(func() { netErr = configureNetwork(ctx, i.log, i.seed.Hostname) })
	wg.Wait()
	return errors.Join(diskErr, netErr)
}
