package qemu

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/getberth/berth/drivers"
)

// Bounds of what can be asked for.
const (
	defaultCPUs = 2
	maxCPUs     = 288     // of QEMU's q35 machine with the interrupt controller that it has by default
	minMemory   = 256     // MiB; below, kernel and engine do not fit
	maxMemory   = 4 << 20 // MiB: 4 TiB, a slip of the finger beyond
	minDisk     = 1 << 30 // bytes
	maxDisk     = 1 << 46 // bytes: 64 TiB, ext4's limit is near
	diskQuantum = 1 << 20 // bytes; disks are whole MiB
)

// Flags lists what can be set at creation.
func (d *Driver) Flags() []drivers.Flag {
	return []drivers.Flag{
		{Name: "qemu-cpu-count", Usage: "Number of CPUs (default 2, or 1 where QEMU emulates all in one thread)", EnvVar: "QEMU_CPU_COUNT", Default: 0},
		{Name: "qemu-memory", Usage: "Memory in MiB", EnvVar: "QEMU_MEMORY", Default: 2048},
		{Name: "qemu-disk-size", Usage: "Size of the disk in GB, or with a unit (40g); it takes only the room that is used", EnvVar: "QEMU_DISK_SIZE", Default: "20"},
		{Name: "qemu-accel", Usage: "How instructions are run: auto, kvm, hvf, whpx or tcg", EnvVar: "QEMU_ACCEL", Default: "auto", Values: []string{"auto", "kvm", "hvf", "whpx", "tcg"}},
		{Name: "qemu-binary", Usage: "QEMU program to use instead of the one in PATH", EnvVar: "QEMU_BINARY", Default: ""},
		{Name: "qemu-guest-dir", Usage: "Folder of another guest image", EnvVar: "QEMU_GUEST_DIR", Default: ""},
		{Name: "qemu-extra-arg", Usage: "Further argument for QEMU; may be repeated", Default: []string{}},
	}
}

// fromOptions reads and checks what was asked for, all of it that does not depend on this computer.
func fromOptions(o drivers.Options) (*state, error) {
	s := &state{Version: stateVersion, CPUs: o.Int("qemu-cpu-count"), Memory: o.Int("qemu-memory"), Accel: o.String("qemu-accel"),
		Binary: o.String("qemu-binary"), GuestDir: o.String("qemu-guest-dir"), Extra: o.Strings("qemu-extra-arg")}
	if s.Accel == "" {
		s.Accel = "auto"
	}
	var err error
	if s.DiskSize, err = diskSize(o.String("qemu-disk-size")); err != nil {
		return nil, err
	}
	switch {
	case s.CPUs < 0 || s.CPUs > maxCPUs:
		return nil, fmt.Errorf("--qemu-cpu-count %d: it must be between 1 and %d", s.CPUs, maxCPUs)
	case s.Memory < minMemory || s.Memory > maxMemory:
		return nil, fmt.Errorf("--qemu-memory %d: it is in MiB and must be between %d and %d", s.Memory, minMemory, maxMemory)
	case s.Accel != "auto" && !slices.Contains(accelNames, s.Accel):
		return nil, fmt.Errorf("--qemu-accel %q: it must be one of auto, %s", s.Accel, strings.Join(accelNames, ", "))
	}
	for flag, p := range map[string]*string{"qemu-binary": &s.Binary, "qemu-guest-dir": &s.GuestDir} {
		if *p == "" || (flag == "qemu-binary" && !strings.ContainsAny(*p, `/\`)) {
			continue // a name is looked up in PATH
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
	}
	return s, nil
}

// diskSize reads a size: a bare number is in GB, which are GiB here as they are for memory and disks in Docker.
func diskSize(text string) (int64, error) {
	bad := func(why string) (int64, error) {
		return 0, fmt.Errorf("--qemu-disk-size %q: %s", text, why)
	}
	n, err := strconv.ParseFloat(text, 64)
	if err == nil {
		n *= 1 << 30
	} else {
		var i int64
		if i, err = units.RAMInBytes(text); err != nil {
			return bad("it is no size such as 20 or 40g")
		}
		n = float64(i)
	}
	if math.IsNaN(n) || n < minDisk || n > maxDisk {
		return bad(fmt.Sprintf("it must be between %s and %s", units.BytesSize(minDisk), units.BytesSize(maxDisk)))
	}
	return (int64(n) + diskQuantum - 1) / diskQuantum * diskQuantum, nil
}
