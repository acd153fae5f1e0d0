package qemu

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/qemu/lan"
	"github.com/getberth/berth/drivers/qemu/qmp"
	"github.com/getberth/berth/drivers/qemu/vswitch"
	"github.com/getberth/berth/guest/seed"
)

// silence is after how long without any sign of life a guest under a hardware accelerator is taken to be unable to boot there. One
// that can takes a second.
const silence = 20 * time.Second

// Check sees that a machine can be made: options, QEMU and its version, the guest image, the accelerator and the room on the disk.
func (d *Driver) Check(ctx context.Context, h *drivers.Host, o drivers.Options) error {
	s, err := fromOptions(o)
	if err != nil {
		return err
	}
	im, err := d.findImage(s)
	if err != nil {
		return err
	}
	bin, err := d.host.findBinary(s.Binary, im.Arch)
	if err != nil {
		return err
	}
	whole := make(chan error, 1)
	go func() { whole <- d.verify(ctx, h, im) }() // takes as long as QEMU takes to tell its version
	if err := errors.Join(d.checkVersion(ctx, bin), <-whole); err != nil {
		return err
	}
	if _, _, err := d.host.choose(s, im.Arch); err != nil {
		return err
	}
	if _, err := d.helper(); err != nil {
		return err
	}
	return checkSpace(h, s.DiskSize)
}

// Create makes the machine and boots it. Called again it goes on with the machine that it has begun; the options then given for
// it take the place of the first ones, but its disk does not become smaller.
func (d *Driver) Create(ctx context.Context, h *drivers.Host, o drivers.Options) error {
	s, err := fromOptions(o)
	if err != nil {
		return err
	}
	old, err := load(h)
	if err != nil {
		return err
	}
	if old != nil {
		s.Index, s.HostIP, s.SSHPort, s.EnginePort, s.Silent = old.Index, old.HostIP, old.SSHPort, old.EnginePort, old.Silent
		if s.DiskSize < old.DiskSize {
			return fmt.Errorf("machine %q: its disk has %d bytes and cannot be made smaller", h.Name, old.DiskSize)
		}
	}
	if old == nil || !alive(h.Dir) {
		if err := d.assign(ctx, h, s); err != nil {
			return err
		}
	}
	return d.boot(ctx, h, s)
}

// Settled names all flags of a machine that runs: it follows other ones when it is started.
func (d *Driver) Settled(h *drivers.Host) ([]string, error) {
	s, err := load(h)
	if s == nil || !alive(h.Dir) {
		return nil, err
	}
	var l []string
	for _, f := range d.Flags() {
		l = append(l, f.Name)
	}
	return l, nil
}

// Rename implements drivers.Renamer: the guest is told its name at each start. QEMU and the switch have files of a running one open
// by their paths, so it must be off.
func (d *Driver) Rename(_ context.Context, h *drivers.Host, _ string) error {
	if alive(h.Dir) {
		return &drivers.AdvisedError{
			Err:    fmt.Errorf("machine %q runs: a light VM is renamed while it is off", h.Name),
			Advice: "Stop it: {berth} stop " + h.Name,
		}
	}
	return nil
}

// Start boots the machine, and returns when SSH answers in it.
func (d *Driver) Start(ctx context.Context, h *drivers.Host) error {
	s, err := mustLoad(h)
	if err != nil {
		return err
	}
	if _, err := os.Stat(h.Dir + "/" + diskFile); err != nil {
		return fmt.Errorf("machine %q: its disk: %w", h.Name, err)
	}
	if !alive(h.Dir) {
		if err := d.assign(ctx, h, s); err != nil { // another program may have one of its ports now
			return err
		}
	}
	return d.boot(ctx, h, s)
}

// boot starts the machine if it does not run, and waits until SSH answers.
func (d *Driver) boot(ctx context.Context, h *drivers.Host, s *state) error {
	b, err := d.open(h, s)
	if err != nil {
		return err
	}
	im, err := d.findImage(s)
	if err != nil {
		return fmt.Errorf("machine %q: %w", h.Name, err)
	}
	if !alive(h.Dir) {
		if err := d.verify(ctx, h, im); err != nil {
			return fmt.Errorf("machine %q: %w", h.Name, err)
		}
		d.remember(h)
	}
	accel, why, err := d.host.choose(s, im.Arch)
	if err != nil {
		return fmt.Errorf("machine %q: %w", h.Name, err)
	}
	if why != nil && !alive(h.Dir) {
		logf(h, "%v: using TCG, which is slow", why)
	}
	err = b.bootWith(ctx, im, accel)
	if !errors.Is(err, errSilent) || s.Accel != "auto" {
		return b.explain(err)
	}
	logf(h, "the guest gives no sign of life under %s: using TCG, which is slow", accel)
	if err := b.kill(ctx); err != nil {
		return b.explain(err)
	}
	s.Silent = accel
	if err := h.Record(s); err != nil {
		return err
	}
	return b.explain(b.bootWith(ctx, im, "tcg"))
}

// errSilent is the failure of a guest to give any sign of life.
var errSilent = errors.New("the guest gives no sign of life")

// bootWith starts QEMU, or goes on with one that runs, and waits for the guest.
func (b *box) bootWith(ctx context.Context, im *image, accel string) error {
	q, err := b.startQEMU(ctx, im, accel)
	fresh := err == nil
	if errors.Is(err, errRunning) {
		q, err = b.monitor(ctx, waitMonitor)
	}
	if err != nil {
		return err
	}
	defer q.Close()
	if err := b.attach(ctx, fresh); err != nil {
		if fresh {
			b.kill(ctx)
		}
		return err
	}
	status, err := q.Status(ctx)
	if err != nil {
		return err
	}
	if slices.Contains([]string{"prelaunch", "paused", diskFull}, status) {
		if err := q.Run(ctx, "cont", nil, nil); err != nil {
			return err
		}
	}
	if err := b.awaitGuest(ctx, accel, q); err != nil {
		return err
	}
	// From now on a guest may restart itself.
	return q.Run(ctx, "set-action", map[string]string{"reboot": "reset"}, nil)
}

// diskFull is the state in which QEMU stands still because it could not write a disk. Told to go on, it tries again.
const diskFull = "io-error"

// awaitGuest waits until SSH answers in the guest.
func (b *box) awaitGuest(ctx context.Context, accel string, q *qmp.Client) error {
	c := vswitch.NewClient(b.run)
	if accel != "tcg" {
		if err := b.within(ctx, silence, q, func(ctx context.Context) error { return c.WaitSpoke(ctx, b.s.Index) }); err != nil {
			if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				return errSilent
			}
			return err
		}
	}
	limit := b.bootLimit(accel)
	err := b.within(ctx, limit, q, func(ctx context.Context) error { return c.Wait(ctx, b.s.Index) })
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("SSH has not come up within %s", limit)
	}
	return err
}

func (b *box) bootLimit(accel string) time.Duration {
	switch {
	case b.d.conf.BootTimeout > 0:
		return b.d.conf.BootTimeout
	case accel == "tcg":
		return 5 * time.Minute
	}
	return 2 * time.Minute
}

// within runs f for at most limit, and not longer than QEMU runs.
func (b *box) within(ctx context.Context, limit time.Duration, q *qmp.Client, f func(context.Context) error) error {
	fctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	go func() {
		select {
		case <-q.Done():
			cancel()
		case <-fctx.Done():
		}
	}()
	err := f(fctx)
	gone := new(vswitch.Error)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &gone) && gone.Status == http.StatusFailedDependency:
		return fmt.Errorf("the guest says: %s", printable(gone.Message))
	case fctx.Err() == context.Canceled || errors.As(err, &gone) && gone.Status == http.StatusGone:
		return errors.New("the guest has ended while booting")
	case fctx.Err() != nil:
		return context.DeadlineExceeded
	}
	return err
}

// explain adds the console's last lines to an error of booting, which often tell why.
func (b *box) explain(err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("booting machine %q: %w", b.h.Name, err)
	if errors.Is(err, context.Canceled) {
		return err
	}
	if t := tail(b.file(consoleFile), 20); t != "" {
		err = fmt.Errorf("%w\nits console ends with:\n%s", err, indent(t))
	}
	return err
}

func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }

// State asks QEMU what the machine is doing. It also starts the switch again if it has died under a running machine.
func (d *Driver) State(ctx context.Context, h *drivers.Host) (drivers.State, error) {
	s, err := load(h)
	if err != nil {
		return drivers.Error, err
	}
	if s == nil {
		return drivers.NotFound, nil
	}
	if _, err := os.Stat(h.Dir + "/" + diskFile); errors.Is(err, os.ErrNotExist) {
		return drivers.NotFound, nil
	}
	if !alive(h.Dir) {
		return drivers.Stopped, nil
	}
	b, err := d.open(h, s)
	if err != nil {
		return drivers.Error, err
	}
	status, err := b.status(ctx)
	if err != nil {
		if !alive(h.Dir) {
			return drivers.Stopped, nil
		}
		return drivers.Error, fmt.Errorf("machine %q: QEMU runs but does not answer: %w", h.Name, err)
	}
	st := stateOf(status)
	if st == drivers.Running {
		if err := b.attach(ctx, false); err != nil {
			debugf(h, "attaching to the switch: %v", err)
		}
	}
	return st, nil
}

func (b *box) status(ctx context.Context) (string, error) {
	q, err := b.monitor(ctx, askMonitor)
	if err != nil {
		return "", err
	}
	defer q.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return q.Status(ctx)
}

// monitor connects to one of QEMU's monitors.
func (b *box) monitor(ctx context.Context, suffix string) (*qmp.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return qmp.Dial(ctx, b.socket(suffix))
}

// stateOf translates QEMU's run states (qapi/run-state.json).
func stateOf(status string) drivers.State {
	switch status {
	case "running":
		return drivers.Running
	case "prelaunch", "inmigrate":
		return drivers.Starting
	case "paused", "save-vm", "restore-vm", "debug", "colo", "finish-migrate", "postmigrate":
		return drivers.Paused
	case "suspended":
		return drivers.Saved
	case "shutdown":
		return drivers.Stopping
	}
	return drivers.Error // internal-error, io-error, guest-panicked, watchdog
}

// Endpoint tells how to reach the machine.
func (d *Driver) Endpoint(h *drivers.Host) (drivers.Endpoint, error) {
	s, err := mustLoad(h)
	if err != nil {
		return drivers.Endpoint{}, err
	}
	if _, err := netip.ParseAddr(s.HostIP); err != nil {
		return drivers.Endpoint{}, fmt.Errorf("machine %q: its address on this computer: %w", h.Name, err)
	}
	return drivers.Endpoint{
		Address: s.HostIP, EnginePort: int(s.EnginePort),
		SSHHost: s.HostIP, SSHPort: int(s.SSHPort), SSHUser: "root",
		HostKey: h.Keys.HostPublic,
		SANs:    []string{lan.IP(s.Index).String(), h.Name, h.Name + "." + seed.Domain},
	}, nil
}

// Diagnose tells what is known of a machine that does not answer.
func (d *Driver) Diagnose(ctx context.Context, h *drivers.Host) (string, error) {
	s, err := mustLoad(h)
	if err != nil {
		return "", err
	}
	b, err := d.open(h, s)
	if err != nil {
		return "", err
	}
	var w strings.Builder
	st, err := d.State(ctx, h)
	fmt.Fprintf(&w, "QEMU: %s", st)
	if err != nil {
		fmt.Fprintf(&w, " (%v)", err)
	}
	w.WriteString("\n")
	b.describeSwitch(ctx, &w)
	for _, f := range []struct{ file, title string }{{qemuLog, "QEMU says"}, {consoleFile, "the console ends with"}} {
		if t := tail(b.file(f.file), 20); t != "" {
			fmt.Fprintf(&w, "%s:\n%s\n", f.title, indent(t))
		}
	}
	return w.String(), nil
}

func (b *box) describeSwitch(ctx context.Context, w *strings.Builder) {
	st, err := vswitch.NewClient(b.run).Get(ctx, b.s.Index)
	if err != nil {
		fmt.Fprintf(w, "network: %v\n", err)
		return
	}
	fmt.Fprintf(w, "network: attached, SSH %s, engine %s\n", upOrNot(st.SSH), upOrNot(st.Engine))
	if st.Failed != "" {
		fmt.Fprintf(w, "the guest says: %s\n", printable(st.Failed))
	}
	for _, f := range st.Forwards {
		if f.Error != "" {
			fmt.Fprintf(w, "not forwarded: %s\n", f.Error)
		}
	}
}

// Warnings tells which published ports are not on this computer, and why, or why the machine stands still.
func (d *Driver) Warnings(ctx context.Context, h *drivers.Host) ([]string, error) {
	s, err := mustLoad(h)
	if err != nil {
		return nil, err
	}
	b, err := d.open(h, s)
	if err != nil {
		return nil, err
	}
	if status, err := b.status(ctx); err == nil && status == diskFull {
		return []string{"it stands still since its disk cannot be written, perhaps because this computer's is full; `berth start` lets it go on"}, nil
	}
	st, err := vswitch.NewClient(b.run).Get(ctx, s.Index)
	if err != nil {
		return nil, err
	}
	var l []string
	for _, f := range st.Forwards {
		if f.Error != "" {
			l = append(l, f.Error)
		}
	}
	return l, nil
}

func upOrNot(up bool) string {
	if up {
		return "answers"
	}
	return "has not answered yet"
}
