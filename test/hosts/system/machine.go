//go:build linux

package system

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Machine is a running host.
type Machine struct {
	Address string // of the loopback network
	SSHPort int
	Busybox string // a static busybox for the host's processor

	cmd     *exec.Cmd
	console string
	said    string
	ended   chan struct{} // closed when QEMU has ended
}

// sshPort is the host's port 22 here, where the computer may have a server of its own on all addresses.
const sshPort = 2222

// Boot boots a host with its disk in a folder. The key is who is let in: a line of authorized_keys for an Ed25519 key. The host ends
// with this process at the latest, provided that the caller's thread lives as long as that.
func (s System) Boot(ctx context.Context, f Files, dir, key string) (*Machine, error) {
	m, err := s.boot(ctx, f, dir, key)
	if err != nil {
		return nil, fmt.Errorf("booting a host with %s: %w", s.Name, err)
	}
	return m, nil
}

func (s System) boot(ctx context.Context, f Files, dir, key string) (*Machine, error) {
	words := strings.Fields(key)
	if len(words) < 2 || words[0] != "ssh-ed25519" {
		return nil, fmt.Errorf("%q is no Ed25519 key", key)
	}
	disk := filepath.Join(dir, "disk.qcow2")
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", f.Disk, disk).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("qemu-img: %w: %s", err, out)
	}
	m := &Machine{SSHPort: sshPort, Busybox: f.Busybox, console: filepath.Join(dir, "console.log"), said: filepath.Join(dir, "qemu.log"), ended: make(chan struct{})}
	if m.Address, err = freeAddress(ctx, sshPort, 2376); err != nil {
		return nil, err
	}
	line := s.qemu(f, m, disk, words[1])
	m.cmd = exec.Command(line[0], line[1:]...)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	log, err := os.Create(m.said)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	m.cmd.Stdout, m.cmd.Stderr = log, log
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = m.cmd.Wait() // it is killed, or says why not in its log
		close(m.ended)
	}()
	return m, nil
}

// qemu is a machine as bare as it boots: each device costs an emulated processor time. Its network is one of its own, in which the
// kernel's parameters and the recipes give it the address 10.0.2.15; nothing leads out of it.
func (s System) qemu(f Files, m *Machine, disk, key string) []string {
	home := "/root"
	if s.User != "root" {
		home = "/home/" + s.User
	}
	program, machine, cpu, console := "qemu-system-x86_64", "q35,vmport=off,hpet=off,smbus=off,sata=off,usb=off,graphics=off,dump-guest-core=off", "max,-erms", "ttyS0"
	if s.Arch == "arm64" {
		program, machine, cpu, console = "qemu-system-aarch64", "virt,gic-version=3", "cortex-a72", "ttyAMA0"
	}
	cmdline := []string{"root=/dev/vda", "rw", "net.ifnames=0", "mitigations=off", "tsc=reliable", "no_timer_check", "quiet", "loglevel=3",
		"console=" + console, "berth.home=" + home, "berth.key=" + key}
	forward := ""
	for from, to := range map[int]int{m.SSHPort: 22, 2376: 2376} {
		forward += fmt.Sprintf(",hostfwd=tcp:%s:%d-10.0.2.15:%d", m.Address, from, to)
	}
	return slices.Concat([]string{program, "-name", "berth-hosts-" + s.Name, "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", machine, "-accel", "tcg,thread=single,tb-size=256", "-cpu", cpu, "-smp", "1", "-m", "1024M", "-rtc", "base=utc", // see drivers/qemu for the reasons
		"-kernel", f.Kernel, "-initrd", f.Initrd, "-append", strings.Join(cmdline, " "),
		"-blockdev", fmt.Sprintf(`{"driver":"qcow2","node-name":"disk","discard":"unmap","file":{"driver":"file","filename":%q}}`, disk),
		"-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci",
		"-netdev", "user,id=eth0,restrict=on" + forward, "-device", "virtio-net-pci,netdev=eth0,romfile=",
		"-chardev", "file,id=console,path=" + strings.ReplaceAll(m.console, ",", ",,"), "-serial", "chardev:console"})
}

// freeAddress finds a loopback address with the ports free.
func freeAddress(ctx context.Context, ports ...int) (string, error) {
	var last error
	for range 100 {
		var b [2]byte
		if _, err := rand.Read(b[:]); err != nil {
			return "", err
		}
		address := fmt.Sprintf("127.66.%d.%d", b[0], 1+b[1]%254)
		if last = free(ctx, address, ports); last == nil {
			return address, nil
		}
	}
	return "", last
}

func free(ctx context.Context, address string, ports []int) error {
	var errs []error
	for _, p := range ports {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(p)))
		if errs = append(errs, err); err == nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// Console returns what the kernel, the init system and QEMU have said.
func (m *Machine) Console() string {
	console, _ := os.ReadFile(m.console)
	said, _ := os.ReadFile(m.said)
	return string(console) + string(said)
}

// Ended is closed when the host is off.
func (m *Machine) Ended() <-chan struct{} { return m.ended }

// Close turns the host off.
func (m *Machine) Close() {
	_ = m.cmd.Process.Kill() // it may have ended by itself
	<-m.ended
}
