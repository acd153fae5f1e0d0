package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/qemu/qmp"
	"github.com/getberth/berth/drivers/qemu/vswitch"
)

// Stop asks the guest to power off, waits for the end of QEMU, and cuts the power when the guest takes too long.
func (d *Driver) Stop(ctx context.Context, h *drivers.Host) error {
	b, err := d.running(h)
	if b == nil || err != nil {
		return err
	}
	err = b.powerOff(ctx)
	if ctx.Err() != nil {
		return fmt.Errorf("stopping machine %q: %w", h.Name, ctx.Err())
	}
	if err != nil {
		logf(h, "%q has not ended by itself (%v): cutting its power", h.Name, err)
	}
	return b.end(ctx)
}

// Kill cuts the power.
func (d *Driver) Kill(ctx context.Context, h *drivers.Host) error {
	b, err := d.running(h)
	if b == nil || err != nil {
		return err
	}
	return b.end(ctx)
}

// Restart stops the machine, if it runs, and starts it, with a QEMU and a guest image that may have been replaced meanwhile.
func (d *Driver) Restart(ctx context.Context, h *drivers.Host) error {
	if err := d.Stop(ctx, h); err != nil {
		return err
	}
	return d.Start(ctx, h)
}

// running opens a machine; nil when it does not run.
func (d *Driver) running(h *drivers.Host) (*box, error) {
	s, err := load(h)
	if err != nil || s == nil || !alive(h.Dir) {
		return nil, err
	}
	return d.open(h, s)
}

// powerOff asks the guest to end, over its control channel and by the power button, and waits until it has.
func (b *box) powerOff(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, b.d.conf.StopTimeout, fmt.Errorf("not within %s", b.d.conf.StopTimeout))
	defer cancel()
	q, err := b.monitor(ctx, waitMonitor)
	if err != nil {
		return err
	}
	defer q.Close()
	status, err := q.Status(ctx)
	if err != nil {
		return err
	}
	switch status {
	case "running":
	case "paused":
		if err := q.Run(ctx, "cont", nil, nil); err != nil {
			return err
		}
	default:
		return fmt.Errorf("QEMU is in state %q", status)
	}
	if err := vswitch.NewClient(b.run).PowerOff(ctx, b.s.Index); err != nil {
		debugf(b.h, "powering off over the control channel: %v", err)
	}
	if err := q.Run(ctx, "system_powerdown", nil, nil); err != nil && !errors.Is(err, qmp.ErrGone) {
		return err
	}
	select {
	case <-q.Done():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// end makes sure that QEMU has ended, and lets the switch forget the machine.
func (b *box) end(ctx context.Context) error {
	if err := b.kill(ctx); err != nil {
		return fmt.Errorf("ending QEMU of machine %q: %w", b.h.Name, err)
	}
	dctx, cancel := shortly(ctx, 10*time.Second)
	defer cancel()
	if err := vswitch.NewClient(b.run).Detach(dctx, b.s.Index); err != nil {
		debugf(b.h, "detaching from the switch: %v", err) // it notices by itself, if it runs
	}
	return nil
}

// killLimit is how long QEMU may take to end when it is told to.
const killLimit = 10 * time.Second

// kill ends QEMU: by its own command, which writes out what it has of the disks, else by the system. It does not leave the job half
// done when ctx ends, but takes no longer than twice killLimit.
func (b *box) kill(ctx context.Context) error {
	if !alive(b.h.Dir) {
		return nil
	}
	qctx, cancel := shortly(ctx, killLimit)
	defer cancel()
	if q, err := b.monitor(qctx, askMonitor); err == nil {
		q.Run(qctx, "quit", nil, nil)
		q.Close()
		if waitDead(qctx, b.h.Dir) == nil {
			return nil
		}
	}
	if err := killProcess(b.h.Dir); err != nil {
		return err
	}
	kctx, cancel := shortly(ctx, killLimit)
	defer cancel()
	return waitDead(kctx, b.h.Dir)
}

// Remove ends the machine and deletes its files.
func (d *Driver) Remove(ctx context.Context, h *drivers.Host) error {
	s, err := load(h)
	if err != nil {
		return err
	}
	if s == nil { // it got no further than its folder
		return d.release(ctx, h)
	}
	if err := d.Kill(ctx, h); err != nil {
		return err
	}
	for _, f := range []string{diskFile, seedFile, seedFile + ".tmp", consoleFile, consoleFile + ".1", qemuLog, qemuLog + ".1",
		processFile, processFile + ".tmp", lockFile} {
		if err := os.Remove(h.Dir + string(os.PathSeparator) + f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing machine %q: %w", h.Name, err)
		}
	}
	return d.release(ctx, h)
}
