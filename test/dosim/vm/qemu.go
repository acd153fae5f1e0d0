//go:build linux

package vm

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/drivers/qemu/qmp"
	"github.com/getberth/berth/test/dosim"
	"github.com/getberth/berth/test/dosim/debian"
)

// File numbers of QEMU's that it is given: the two links and the monitor.
const (
	fdPublic = 3 + iota
	fdPrivate
	fdMonitor
)

// args is QEMU's command line. The machine is as bare as it boots: each device costs an emulated processor time. Of what makes it
// a droplet cloud-init looks at the manufacturer and the serial number.
func (c *Cloud) args(m dosim.Machine, disk string) []string {
	accel, cpu := "tcg,thread=single,tb-size=256", "max,-erms" // see drivers/qemu for the reasons
	if c.kvm {
		accel, cpu = "kvm", "host"
	}
	nic := func(fd int, id, mac string) []string {
		return []string{"-netdev", fmt.Sprintf("tap,id=%s,fd=%d", id, fd), "-device", fmt.Sprintf("virtio-net-pci,netdev=%s,mac=%s,romfile=", id, mac)}
	}
	return slices.Concat([]string{
		"-name", "berth-dosim-" + strconv.Itoa(m.ID), "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "q35,vmport=off,hpet=off,smbus=off,sata=off,usb=off,graphics=off,dump-guest-core=off",
		"-accel", accel, "-cpu", cpu, "-smp", "1", "-m", strconv.Itoa(min(m.Memory, c.maxMemory)) + "M",
		"-smbios", "type=1,manufacturer=DigitalOcean,product=Droplet,serial=" + strconv.Itoa(m.ID),
		"-kernel", c.files.Kernel, "-initrd", c.files.Initrd, "-append", debian.Cmdline + " console=ttyS0 no_timer_check",
		"-rtc", "base=utc",
		"-blockdev", fmt.Sprintf(`{"driver":"qcow2","node-name":"disk","discard":"unmap","file":{"driver":"file","filename":%q}}`, disk),
		"-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci", "-device", "virtio-scsi-pci,id=volumes",
		"-chardev", "file,id=console,path=" + strings.ReplaceAll(filepath.Join(filepath.Dir(disk), "console.log"), ",", ",,"), "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=mon,fd=%d", fdMonitor), "-mon", "mode=control,chardev=mon",
	}, nic(fdPublic, "eth0", m.Public.MAC), nic(fdPrivate, "eth1", m.Private.MAC))
}

// running is a QEMU.
type running struct {
	cmd      *exec.Cmd
	monitor  *qmp.Client
	metadata net.Listener
	off      chan struct{} // closed when it has ended and been cleaned up after
}

// launch starts QEMU in the network's thread, so that it is killed when this process dies.
func (c *Cloud) launch(ctx context.Context, m dosim.Machine, disk string) (r *running, err error) {
	eth0, eth1, err := c.net.taps(m.ID, m.Public.Address, m.VPC)
	if err != nil {
		return nil, err
	}
	defer eth0.Close()
	defer eth1.Close()
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	r = &running{off: make(chan struct{})}
	r.cmd = exec.Command(qemu, c.args(m, disk)...)
	r.cmd.ExtraFiles = []*os.File{eth0, eth1, theirs}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // Ctrl-C is for us, not for it
	stderr, err := os.Create(filepath.Join(filepath.Dir(disk), "qemu.log"))
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer stderr.Close()
	r.cmd.Stderr = stderr
	if r.metadata, err = c.net.listenMetadata(m.ID); err != nil {
		ours.Close()
		return nil, fmt.Errorf("metadata service: %w", err)
	}
	if err := c.net.space.do(r.cmd.Start); err != nil {
		ours.Close()
		r.metadata.Close()
		return nil, err
	}
	r.monitor, err = qmp.New(ctx, ours)
	for i := 0; err == nil && i < len(m.Volumes); i++ {
		err = c.plug(ctx, r, m.Volumes[i])
	}
	if err != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.metadata.Close()
		said, _ := os.ReadFile(stderr.Name())
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(string(said)))
	}
	return r, nil
}

func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "monitor"), os.NewFile(uintptr(fds[1]), "monitor")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
	}
	return conn, theirs, err
}

// hasKVM says whether this computer runs a stock kernel in KVM: there are some that have /dev/kvm and do not.
func hasKVM() bool {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	b, err := os.ReadFile("/proc/cpuinfo")
	return err == nil && slices.ContainsFunc(strings.Fields(string(b)), func(w string) bool { return w == "vmx" || w == "svm" })
}
