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
	"runtime"
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
	power, err := i.start(ctx)
	if err == nil {
		err = i.boot(ctx)
	}
	if err != nil {
		// What cannot boot stays up for a moment of inspection only if somebody may reach it; the host reads why.
		i.log.Error("boot failed", "error", err)
		i.control.send(seed.Event{Event: "failed", Error: err.Error()})
		i.end(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	i.end(<-power)
	return nil
}

// start leaves the initial RAM disk and listens to devices, which announce themselves from then on, and for the end.
func (i *initd) start(ctx context.Context) (power <-chan int, err error) {
	if err := enterRoot(); err != nil {
		return nil, err
	}
	if i.devices, err = watchDevices(); err != nil {
		return nil, err
	}
	return watchPower(ctx, i.log, i.devices), nil
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
	loadModules(i.log, "boot")
	engineModules := make(chan struct{})
	go func() {
		defer close(engineModules)
		loadModules(i.log, "engine")
	}()
	go i.control.open(ctx, i.log, i.devices)
	var err error
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
	<-engineModules
	if err := waitPort(ctx, i.devices, seed.PortsPort); err != nil {
		i.log.Warn("published ports are not reported to the host", "error", err)
	}
	if err := i.startEngine(ctx); err != nil {
		return err
	}
	go i.whenIdle()
	return nil
}

// whenIdle does what nobody waits for yet, at a priority that leaves the processor to the engine but while that waits for the disk.
func (i *initd) whenIdle() {
	runtime.LockOSThread() // the priority is the thread's, which ends here
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19); err != nil {
		i.log.Warn("lowering a priority", "error", err)
	}
	loadModules(i.log, "idle")
	if err := mountBPF(); err != nil {
		i.log.Warn("programs in containers may miss it", "error", err)
	}
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
