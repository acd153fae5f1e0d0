//go:build linux

package pid1

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/guest/seed"
)

// watchPower reports how the machine is asked to end: by the signals that busybox's poweroff, halt and reboot send to process 1,
// by ctrl-alt-del, and by the power button.
func watchPower(ctx context.Context, log *slog.Logger, h *hotplug) <-chan int {
	asked := make(chan int, 1)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTERM, unix.SIGINT)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) // ctrl-alt-del becomes SIGINT
	go func() {
		switch <-signals {
		case unix.SIGTERM, unix.SIGINT:
			asked <- unix.LINUX_REBOOT_CMD_RESTART
		default:
			asked <- unix.LINUX_REBOOT_CMD_POWER_OFF
		}
	}()
	go func() {
		if err := waitForButton(ctx, h); err != nil {
			log.Warn("the power button is not watched", "error", err)
			return
		}
		select {
		case asked <- unix.LINUX_REBOOT_CMD_POWER_OFF:
		default:
		}
	}()
	return asked
}

// keyPower is the code of the power button. Source: linux/include/uapi/linux/input-event-codes.h.
const (
	evKey    = 1
	keyPower = 116
	// inputEvent is the size of struct input_event on 64-bit platforms: two longs, type, code, value.
	inputEvent = 24
)

// waitForButton returns when a power button has been pressed. Its driver is loaded some time after boot, so it waits for the
// device first.
func waitForButton(ctx context.Context, h *hotplug) error {
	var dev string
	err := h.wait(ctx, func() bool { dev = powerButton(); return dev != "" })
	if err != nil {
		return err
	}
	f, err := os.Open(dev)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, inputEvent)
	for {
		if _, err := io.ReadFull(f, b); err != nil {
			return err
		}
		kind, code, value := binary.NativeEndian.Uint16(b[16:]), binary.NativeEndian.Uint16(b[18:]), binary.NativeEndian.Uint32(b[20:])
		if kind == evKey && code == keyPower && value == 1 {
			return nil
		}
	}
}

// powerButton returns the ACPI power button's device, "" when there is none (yet). Source of the name: linux/drivers/acpi/button.c.
func powerButton() string {
	names, _ := filepath.Glob("/sys/class/input/event*/device/name")
	for _, n := range names {
		dev := "/dev/input/" + filepath.Base(filepath.Dir(filepath.Dir(n)))
		if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == "Power Button" && exists(dev) {
			return dev
		}
	}
	return ""
}

// end stops everything in order and ends the machine; it does not return.
func (i *initd) end(cmd int) {
	i.log.Info("going down")
	i.control.send(seed.Event{Event: "poweroff"})
	i.children.stop()
	i.stopContainers()
	killAll()
	unix.Sync()
	for _, dir := range []string{"/root", dataDir} {
		unmount(i.log, dir)
	}
	unix.Sync()
	_ = unix.Reboot(cmd)
	select {}
}

// killGrace is how long processes that belong to nobody may take to end.
const killGrace = 2 * time.Second

// killAll ends every process but this one.
func killAll() {
	_ = unix.Kill(-1, unix.SIGTERM)
	deadline := time.Now().Add(killGrace)
	for time.Now().Before(deadline) && othersLeft() {
		time.Sleep(10 * time.Millisecond)
	}
	_ = unix.Kill(-1, unix.SIGKILL)
	for range 100 {
		if !othersLeft() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// othersLeft tells whether a process other than init has memory of its own, that is, is not a kernel thread.
func othersLeft() bool {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if d == "/proc/1" {
			continue
		}
		if b, err := os.ReadFile(d + "/cmdline"); err == nil && len(b) > 0 {
			return true
		}
	}
	return false
}

// unmount unmounts all that is mounted at or below dir, the last first; what is busy is made read-only so that nothing is lost.
func unmount(log *slog.Logger, dir string) {
	for range 64 {
		if err := unix.Unmount(dir, 0); err != nil {
			if errors.Is(err, unix.EINVAL) {
				return
			}
			unmountBelow(dir)
			if err := unix.Unmount(dir, 0); err != nil && !errors.Is(err, unix.EINVAL) {
				log.Warn("unmounting", "dir", dir, "error", err)
				_ = unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
			}
			return
		}
	}
}
