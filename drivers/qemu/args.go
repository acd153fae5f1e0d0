package qemu

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/getberth/berth/drivers/qemu/lan"
	"github.com/getberth/berth/drivers/qemu/vswitch"
	"github.com/getberth/berth/guest/seed"
)

// Sockets of QEMU's monitors in the run folder, by suffix. A monitor serves one client at a time, so the one on which Stop waits
// for the end is not the one that answers questions.
const (
	askMonitor  = "qmp"
	waitMonitor = "mon"
	bootMonitor = "up" // ours: QEMU dials it once it is ready
)

func socket(index int, suffix string) string { return strconv.Itoa(index) + "." + suffix }

// launch is all that decides QEMU's command line.
type launch struct {
	name   string
	state  *state
	image  *image
	accel  string
	qemu   version // known for tcg only
	data   string  // absolute path of the data disk
	seed   string  // absolute path of the seed disk
	goarch string  // the host's
}

// obj is an argument in JSON form, in which no character of a path has a meaning.
type obj map[string]any

func (o obj) String() string {
	b, _ := json.Marshal(o) // strings, numbers and bools cannot fail
	return string(b)
}

// args is QEMU's command line. Paths of sockets are relative to the run folder, in which QEMU is started, so that their length does
// not matter and no character in them does.
func (l *launch) args() []string {
	s := l.state
	a := []string{
		"-name", "berth-" + strings.ReplaceAll(l.name, ",", ",,"),
		"-nodefaults", "-no-user-config", "-display", "none",
		"-machine", l.machine(),
		"-accel", l.acceleration(),
	}
	if cpu := l.cpu(); cpu != "" {
		a = append(a, "-cpu", cpu)
	}
	a = append(a,
		"-smp", strconv.Itoa(l.cpus()), "-m", strconv.Itoa(s.Memory)+"M",
		"-kernel", l.image.kernel, "-initrd", l.image.initrd, "-append", l.cmdline(),
		// The machine stands still until the switch is there to see its first frame and its first line.
		"-S",
		// A guest that cannot boot ends rather than trying for ever; once it has booted this is turned to a restart.
		"-action", "reboot=shutdown",
		"-rtc", "base=utc",
		"-pidfile", socket(s.Index, "pid"),
	)
	a = append(a, l.disks()...)
	a = append(a, l.channels()...)
	return append(a, s.Extra...)
}

// machine leaves out what a guest without firmware, screen and legacy devices does not need: each costs boot time.
func (l *launch) machine() string {
	if l.image.Arch == "arm64" {
		m := "virt,gic-version=3"
		if l.accel != "tcg" {
			m = "virt,gic-version=max"
		}
		return m
	}
	return "q35,vmport=off,hpet=off,smbus=off,sata=off,usb=off,graphics=off,dump-guest-core=off"
}

// acceleration is the accelerator and its options.
func (l *launch) acceleration() string {
	switch l.accel {
	case "tcg":
		threads := "multi"
		if l.oneThread() {
			threads = "single"
		}
		return "tcg,thread=" + threads + ",tb-size=" + strconv.Itoa(translationCache)
	case "whpx":
		return "whpx,kernel-irqchip=off"
	}
	return l.accel
}

// oneThread keeps TCG of QEMU before 8.1 to one thread: with more, one processor may go on running what another has just patched.
// Linux patches itself as it boots and whenever a feature is turned on, and then hangs in an endless int3. Fixed by QEMU's commit
// deba78709ae8 ("accel/tcg: Always lock pages before translation").
func (l *launch) oneThread() bool { return l.accel == "tcg" && l.qemu.before(8, 1) }

// cpus is how many the guest has. In one thread a second one adds no speed, only switches and messages between the two: a boot
// takes a fifth longer.
func (l *launch) cpus() int {
	switch {
	case l.state.CPUs > 0:
		return l.state.CPUs
	case l.oneThread():
		return 1
	}
	return defaultCPUs
}

// translationCache is how much translated code TCG keeps, in MiB. Its own choice is an eighth of the guest's memory, at most
// 1 GiB: more than a guest of this size translates.
const translationCache = 256

func (l *launch) cpu() string {
	switch l.accel {
	case "kvm", "hvf":
		return "host"
	case "tcg":
		if l.image.Arch == "amd64" {
			// Told that "rep stosb" is fast, Linux and Go clear and copy memory with it; TCG does a byte at a time.
			return "max,-erms"
		}
		return "max"
	}
	return ""
}

// cmdline adds to the image's kernel parameters what depends on the host. Under emulation the guest's kernel cannot be attacked
// through speculation, and its defences against that cost time.
func (l *launch) cmdline() string {
	console := "ttyS0"
	if l.image.Arch == "arm64" {
		console = "ttyAMA0"
	}
	c := l.image.Cmdline + " console=" + console
	if l.accel == "tcg" {
		c += " mitigations=off"
		if l.image.Arch == "amd64" {
			c += " tsc=reliable no_timer_check"
		}
	}
	return strings.TrimSpace(c)
}

func (l *launch) disks() []string {
	var a []string
	for _, d := range []struct {
		serial, path string
		readOnly     bool
	}{
		{seed.RootDisk, l.image.root, true},
		{seed.DataDisk, l.data, false},
		{seed.SeedDisk, l.seed, true},
	} {
		drive := obj{"driver": "raw", "node-name": d.serial, "read-only": d.readOnly,
			"file": obj{"driver": "file", "filename": d.path, "locking": "auto"}}
		dev := obj{"driver": "virtio-blk-pci", "drive": d.serial, "serial": d.serial}
		if !d.readOnly {
			drive["discard"], drive["detect-zeroes"] = "unmap", "unmap" // what the guest frees is freed here
		}
		a = append(a, "-blockdev", drive.String(), "-device", dev.String())
	}
	return a
}

func (l *launch) channels() []string {
	i := l.state.Index
	listen := func(id, path string) string {
		return "socket,id=" + id + ",server=on,wait=off,path=" + filepath.Base(path)
	}
	return []string{
		"-netdev", obj{"type": "stream", "id": "net", "server": true, "addr": obj{"type": "unix", "path": filepath.Base(vswitch.NetSocket("", i))}}.String(),
		"-device", obj{"driver": "virtio-net-pci", "netdev": "net", "mac": lan.MACString(i), "romfile": ""}.String(),
		"-device", obj{"driver": "virtio-rng-pci"}.String(),
		"-device", obj{"driver": "virtio-serial-pci", "id": "serial"}.String(),
		"-chardev", listen("ctl", vswitch.ControlSocket("", i)),
		"-device", obj{"driver": "virtserialport", "bus": "serial.0", "chardev": "ctl", "name": seed.ControlPort}.String(),
		"-chardev", listen("prt", vswitch.PortsSocket("", i)),
		"-device", obj{"driver": "virtserialport", "bus": "serial.0", "chardev": "prt", "name": seed.PortsPort}.String(),
		"-chardev", listen("con", vswitch.ConsoleSocket("", i)), "-serial", "chardev:con",
		"-chardev", listen(askMonitor, socket(i, askMonitor)), "-mon", "mode=control,chardev=" + askMonitor,
		"-chardev", listen(waitMonitor, socket(i, waitMonitor)), "-mon", "mode=control,chardev=" + waitMonitor,
		"-chardev", "socket,id=" + bootMonitor + ",server=off,path=" + socket(i, bootMonitor), "-mon", "mode=control,chardev=" + bootMonitor,
	}
}
