//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/utils"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// process is a running process of the container, the first or an exec's.
type process struct {
	pid   int
	pidfd *os.File
	stdio *stdio
}

// startProcess starts a process; the first one waits for libcontainer's Exec before it becomes the user's program.
func startProcess(c *libcontainer.Container, spec *specs.Process, plan stdioPlan) (*process, error) {
	config := c.Config()
	uid, err := config.HostRootUID()
	if err != nil {
		return nil, err
	}
	gid, err := config.HostRootGID()
	if err != nil {
		return nil, err
	}
	lp, err := convertProcess(spec)
	if err != nil {
		return nil, err
	}
	lp.Init = plan.first
	conn, err := connect(lp, spec.Terminal, plan, uid, gid)
	if err != nil {
		return nil, err
	}
	if err := c.Start(lp); err != nil {
		conn.abandon()
		return nil, err
	}
	p, err := adopt(lp)
	if err != nil {
		_ = lp.Signal(unix.SIGKILL)
		_, _ = lp.Wait()
		conn.abandon()
		return nil, err
	}
	if p.stdio, err = conn.begin(); err != nil {
		_ = p.signal(unix.SIGKILL)
		p.wait()
		conn.abandon()
		return nil, err
	}
	return p, nil
}

// adopt opens the process as a descriptor that becomes readable when it ends, so that no thread has to wait for it.
func adopt(lp *libcontainer.Process) (*process, error) {
	pid, err := lp.Pid()
	if err != nil {
		return nil, err
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open (requires Linux >= 5.10): %w", err)
	}
	return &process{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// wait reaps the process and returns its exit code as Docker counts. It is called once.
func (p *process) wait() int {
	var status unix.WaitStatus
	raw, err := p.pidfd.SyscallConn()
	if err == nil {
		err = raw.Read(func(uintptr) bool {
			pid, err := unix.Wait4(p.pid, &status, unix.WNOHANG, nil)
			return pid == p.pid || err != nil && !errors.Is(err, unix.EINTR)
		})
	}
	if err != nil { // then at the price of a thread
		fmt.Fprintln(os.Stderr, "berth-shim: waiting for a process:", err)
		for _, err = unix.Wait4(p.pid, &status, 0, nil); errors.Is(err, unix.EINTR); {
			_, err = unix.Wait4(p.pid, &status, 0, nil)
		}
	}
	return utils.ExitStatus(status)
}

func (p *process) signal(sig unix.Signal) error {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Control(func(fd uintptr) { sendErr = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	if sendErr != nil {
		return fmt.Errorf("sending signal %d: %w", int(sig), sendErr)
	}
	return err
}

// checkProcess refuses what libcontainer would only stumble over.
func checkProcess(p *specs.Process) error {
	switch {
	case p == nil:
		return invalid("no process was given")
	case len(p.Args) == 0:
		return invalid("no command was given")
	case p.Cwd == "" || p.Cwd[0] != '/':
		return invalid("the working directory %q is not absolute", p.Cwd)
	}
	return nil
}

func convertProcess(p *specs.Process) (*libcontainer.Process, error) {
	lp := &libcontainer.Process{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd, UID: int(p.User.UID), GID: int(p.User.GID),
		Label: p.SelinuxLabel, NoNewPrivileges: &p.NoNewPrivileges, AppArmorProfile: p.ApparmorProfile,
		Scheduler: p.Scheduler, IOPriority: p.IOPriority, LogLevel: "3", // logrus.WarnLevel
	}
	if p.ConsoleSize != nil {
		lp.ConsoleWidth, lp.ConsoleHeight = uint16(p.ConsoleSize.Width), uint16(p.ConsoleSize.Height)
	}
	if c := p.Capabilities; c != nil {
		lp.Capabilities = &configs.Capabilities{
			Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient,
		}
	}
	for _, gid := range p.User.AdditionalGids {
		lp.AdditionalGroups = append(lp.AdditionalGroups, int(gid))
	}
	var err error
	if lp.Rlimits, err = convertRlimits(p.Rlimits); err != nil {
		return nil, err
	}
	lp.CPUAffinity, err = configs.ConvertCPUAffinity(p.ExecCPUAffinity)
	return lp, err
}

func convertRlimits(limits []specs.POSIXRlimit) ([]configs.Rlimit, error) {
	var to []configs.Rlimit
	for _, l := range limits {
		kind, ok := rlimitKind(l.Type)
		if !ok {
			return nil, invalid("unknown resource limit %q", l.Type)
		}
		to = append(to, configs.Rlimit{Type: kind, Soft: l.Soft, Hard: l.Hard})
	}
	return to, nil
}

func rlimitKind(name string) (kind int, ok bool) {
	kind, ok = map[string]int{
		"RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_DATA": unix.RLIMIT_DATA,
		"RLIMIT_STACK": unix.RLIMIT_STACK, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_RSS": unix.RLIMIT_RSS,
		"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
		"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
		"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
		"RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	}[name]
	return kind, ok
}
