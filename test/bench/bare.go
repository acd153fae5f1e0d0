//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/u-root/u-root/pkg/cpio"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/guest/seed"
)

// bareBoot is what a kernel costs by itself, from the start of QEMU.
type bareBoot struct {
	init time.Duration // until its init runs
	off  time.Duration // until QEMU has ended
}

// qemuLine is the command line of the QEMU that runs a machine.
func qemuLine(name string) ([]string, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended meanwhile
		}
		argv := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
		if n := slices.Index(argv, "-name"); n > 0 && n+1 < len(argv) && argv[n+1] == "berth-"+name {
			return argv, nil
		}
	}
	return nil, fmt.Errorf("no QEMU runs machine %s", name)
}

// bareLine changes a machine's line into one with the same kernel and the same devices that runs by itself: another init, an
// empty disk, the console on standard output, no monitor that dials, and no waiting for the virtual switch.
func bareLine(argv []string, initrd, disk string) []string {
	bare := slices.Clone(argv)
	for n, a := range bare {
		switch {
		case a == "-initrd":
			bare[n+1] = initrd
		case strings.HasPrefix(a, "socket,id=con,"):
			bare[n] = "stdio,id=con,signal=off"
		case strings.HasPrefix(a, "socket,id=up,"):
			bare[n] = "null,id=up"
		case strings.Contains(a, `"node-name":"`+seed.DataDisk+`"`):
			bare[n] = fmt.Sprintf(`{"driver":"raw","node-name":%q,"file":{"driver":"file","filename":%q}}`, seed.DataDisk, disk)
		}
	}
	return slices.DeleteFunc(bare, func(a string) bool { return a == "-S" })
}

// bootBare boots the kernel of a machine that is stopped with an init that powers off.
func (b *bench) bootBare(ctx context.Context, argv []string) (boot bareBoot, err error) {
	dir, err := os.MkdirTemp(b.dir, "bare")
	if err != nil {
		return boot, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	initrd, disk := filepath.Join(dir, "initrd"), filepath.Join(dir, "disk")
	if err := b.bareInitrd(initrd); err != nil {
		return boot, err
	}
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		return boot, err
	}
	if err := os.Truncate(disk, 1<<30); err != nil {
		return boot, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*patience)
	defer cancel()
	argv = bareLine(argv, initrd, disk)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir // its sockets are relative
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	console, err := cmd.StdoutPipe()
	if err != nil {
		return boot, err
	}
	var said strings.Builder
	cmd.Stderr = &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return boot, err
	}
	lines := bufio.NewScanner(console)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "bareinit runs") {
			boot.init = time.Since(began)
		}
	}
	_, _ = io.Copy(io.Discard, console) // after a line that is too long
	if err := cmd.Wait(); err != nil || boot.init == 0 {
		return boot, fmt.Errorf("booting the bare kernel: %w; init ran: %t\n%s", err, boot.init > 0, said.String())
	}
	boot.off = time.Since(began)
	return boot, nil
}

func (b *bench) bareInitrd(path string) (err error) {
	program, err := os.ReadFile(filepath.Join(b.bin, "bareinit"))
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := cpio.Newc.Writer(f)
	records := []cpio.Record{
		cpio.Directory("dev", 0o755), cpio.CharDev("dev/console", 0o600, 5, 1), cpio.StaticFile("init", string(program), 0o755),
	}
	if err := cpio.WriteRecords(w, records); err != nil {
		return err
	}
	return cpio.WriteTrailer(w)
}
