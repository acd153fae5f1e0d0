package qemu_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/driverstest"
	"github.com/getberth/berth/drivers/qemu"
	"github.com/getberth/berth/drivers/qemu/vswitch"
	"github.com/getberth/berth/guest/seed"
)

// guestDir is where `make guest` has put the image, or where BERTH_GUEST_DIR says.
func guestDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("BERTH_GUEST_DIR")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin", "guest")
	}
	if _, err := os.Stat(filepath.Join(dir, seed.Manifest)); err != nil {
		t.Skipf("needs a guest image (`make guest`): %v", err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestConformance boots real machines.
func TestConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("boots machines")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skipf("needs QEMU: %v", err)
	}
	image := guestDir(t)
	temp, err := os.MkdirTemp("", "q")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(temp) })
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	driver := func() drivers.Driver {
		return qemu.New(qemu.Config{GuestDir: image, Helper: []string{exe, "__vswitch"}, Idle: time.Second})
	}
	driverstest.Run(t, driver,
		driverstest.Temp(temp),
		driverstest.With("qemu-memory", 512),
		driverstest.With("qemu-disk-size", "1"),
		driverstest.Refuses("no CPU", "qemu-cpu-count", -1),
		driverstest.Refuses("not a size", "qemu-disk-size", "huge"),
		driverstest.Refuses("no such accelerator", "qemu-accel", "magic"),
		driverstest.Made(func(h *drivers.Host) bool {
			_, err := os.Stat(filepath.Join(h.Dir, "data.raw"))
			return err == nil
		}),
		driverstest.Reach(func(t *testing.T, e drivers.Endpoint, h *drivers.Host) {
			greets(t, e)
			switchDies(t, driver(), h)
			greets(t, e)
		}),
	)
}

// greets expects an SSH server where the endpoint says.
func greets(t *testing.T, e drivers.Endpoint) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(e.SSHHost, strconv.Itoa(e.SSHPort)))
	if err != nil {
		t.Errorf("dialling SSH: %v", err)
		return
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, []byte("SSH-")) {
		t.Errorf("where SSH should be somebody says %q, %v", got, err)
	}
}

// switchDies ends the virtual switch under a running machine; whoever asks for the machine's state next starts another.
func switchDies(t *testing.T, d drivers.Driver, h *drivers.Host) {
	t.Helper()
	run := filepath.Join(filepath.Dir(filepath.Dir(h.Dir)), "qemu", "run")
	if err := vswitch.NewClient(run).Quit(t.Context()); err != nil {
		t.Errorf("ending the switch: %v", err)
	}
	if st, err := d.State(t.Context(), h); st != drivers.Running || err != nil {
		t.Errorf("without its switch the machine is %q, %v", st, err)
	}
}
