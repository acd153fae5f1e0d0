package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/getberth/berth/background"
	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/qemu/qmp"
	"github.com/getberth/berth/drivers/qemu/vswitch"
)

// readyLimit is how long QEMU may take to set itself up, loaded as the host may be.
const readyLimit = time.Minute

// box is a machine with all that is known of it for one call of the driver.
type box struct {
	d   *Driver
	h   *drivers.Host
	s   *state
	run string // run folder
}

func (d *Driver) open(h *drivers.Host, s *state) (*box, error) {
	run, err := d.runDir(h)
	if err != nil {
		return nil, fmt.Errorf("machine %q: %w", h.Name, err)
	}
	return &box{d, h, s, run}, nil
}

func (b *box) file(name string) string { return filepath.Join(b.h.Dir, name) }

func (b *box) socket(suffix string) string { return filepath.Join(b.run, socket(b.s.Index, suffix)) }

// startQEMU starts the machine's QEMU, which then stands still until it is told to go on. It returns errRunning when it runs
// already, and a monitor otherwise.
func (b *box) startQEMU(ctx context.Context, im *image, accel string) (*qmp.Client, error) {
	bin, err := b.d.host.findBinary(b.s.Binary, im.Arch)
	if err != nil {
		return nil, err
	}
	right, err := b.takeLife(ctx)
	if err != nil {
		return nil, err
	}
	defer right.release()
	if err := b.prepare(); err != nil {
		return nil, err
	}
	ready, err := net.Listen("unix", b.socket(bootMonitor))
	if err != nil {
		return nil, fmt.Errorf("making a socket for QEMU: %w", err)
	}
	defer ready.Close()
	l := launch{name: b.h.Name, state: b.s, image: im, accel: accel, data: b.file(diskFile), seed: b.file(seedFile), goarch: b.d.host.goarch}
	if accel == "tcg" {
		if l.qemu, err = b.version(ctx, bin); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(bin, l.args()...)
	cmd.Dir = b.run
	right.pass(cmd)
	debugf(b.h, "in %s: %s", b.run, cmd)
	ended, err := b.exec(cmd)
	if err != nil {
		return nil, err
	}
	q, err := b.greet(ctx, ready, ended)
	if err != nil {
		cmd.Process.Kill()
		<-ended
		return nil, err
	}
	return q, nil
}

// version is that of the QEMU program, which is recorded.
func (b *box) version(ctx context.Context, bin string) (version, error) {
	r, err := b.d.identify(ctx, bin, b.s.QEMU)
	if err != nil || r == b.s.QEMU {
		return r.Version, err
	}
	b.s.QEMU = r
	return r.Version, b.h.Record(b.s)
}

// takeLife takes the right to run the machine. Who only asks for the machine's state may be in the way for a moment.
func (b *box) takeLife(ctx context.Context) (*life, error) {
	right, err := takeLife(b.h.Dir)
	if !errors.Is(err, errRunning) || b.answers(ctx) {
		return right, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	waitDead(ctx, b.h.Dir)
	return takeLife(b.h.Dir)
}

// answers tells whether there is a monitor.
func (b *box) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", b.socket(askMonitor))
	if err == nil {
		c.Close()
	}
	return err == nil
}

// prepare makes the disks, and clears away what an earlier run has left. The right to run the machine is held.
func (b *box) prepare() error {
	for _, suffix := range []string{askMonitor, waitMonitor, bootMonitor, "net", "ctl", "prt", "con", "pid"} {
		os.Remove(b.socket(suffix))
	}
	if err := growDisk(b.file(diskFile), b.s.DiskSize); err != nil {
		return err
	}
	if err := writeSeed(b.h); err != nil {
		return err
	}
	for _, f := range []string{consoleFile, qemuLog} {
		os.Rename(b.file(f), b.file(f)+".1")
	}
	return nil
}

// exec starts QEMU apart from this process; the channel is closed when it has ended.
func (b *box) exec(cmd *exec.Cmd) (<-chan struct{}, error) {
	out, err := os.OpenFile(b.file(qemuLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	background.Detach(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting QEMU: %w", err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	if err := writeProcess(b.h.Dir, cmd.Process.Pid); err != nil {
		cmd.Process.Kill()
		<-ended
		return nil, err
	}
	return ended, nil
}

// greet waits for QEMU to dial its boot monitor, which it does when its other sockets listen.
func (b *box) greet(ctx context.Context, ready net.Listener, ended <-chan struct{}) (*qmp.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	go func() {
		select {
		case <-ctx.Done():
		case <-ended:
		}
		ready.Close()
	}()
	conn, err := ready.Accept()
	var q *qmp.Client
	if err == nil {
		q, err = qmp.New(ctx, conn)
	}
	if err == nil {
		return q, nil
	}
	select {
	case <-ended:
		return nil, fmt.Errorf("QEMU has ended: %s", orElse(tail(b.file(qemuLog), 5), "it gives no reason"))
	default:
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return nil, fmt.Errorf("waiting for QEMU to start: %w", err)
}

// machine is what the switch is told.
func (b *box) machine(fresh bool) (vswitch.Machine, error) {
	console := b.file(consoleFile)
	if rel, err := filepath.Rel(b.run, console); err == nil && strings.HasPrefix(b.run, b.d.store(b.h)) {
		console = rel // both may be moved together
	}
	m := vswitch.Machine{Name: b.h.Name, Index: b.s.Index, SSHPort: b.s.SSHPort, EnginePort: b.s.EnginePort, Console: console, Fresh: fresh}
	return m, m.HostIP.UnmarshalText([]byte(b.s.HostIP))
}

// attach joins the machine to the switch, which is started if need be.
func (b *box) attach(ctx context.Context, fresh bool) error {
	m, err := b.machine(fresh)
	if err != nil {
		return err
	}
	for range 3 { // a switch may end between being found and being asked
		if err = b.d.ensureSwitch(ctx, b.run); err != nil {
			return err
		}
		if err = vswitch.NewClient(b.run).Attach(ctx, m); err == nil {
			return nil
		}
		if refused := new(vswitch.Error); errors.As(err, &refused) && refused.Status != 503 {
			return err
		}
	}
	return err
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
