//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/runtime/shim"
)

// supervisor is one that this engine has started.
type supervisor struct {
	pid   int
	pidfd *os.File
	ready net.Conn      // gets one Reply
	ended chan struct{} // closed when the process was reaped
}

// spawn starts the supervisor of a bundle in a session of its own.
func (s *Service) spawn(bundle string) (*supervisor, error) {
	var files fileSet
	defer files.close()
	null := files.open(os.DevNull, os.O_RDWR)
	log := files.open(filepath.Join(bundle, shim.LogFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND)
	listener := files.add(listen(bundle))
	mine, theirs, err := socketpair()
	files.add(theirs, err)
	if files.err != nil {
		if mine != nil {
			mine.Close()
		}
		return nil, files.err
	}
	var pidfd int
	// A path through our own pid, because what the child does with its descriptors before it executes could hit the program.
	program := "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(s.program.Fd()))
	p, err := os.StartProcess(program, []string{"berth-shim", bundle}, &os.ProcAttr{
		Dir: "/", Env: []string{"GOMAXPROCS=1"}, Files: []*os.File{null, log, log, listener, theirs},
		Sys: &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	})
	if err != nil {
		mine.Close()
		return nil, err
	}
	sup := &supervisor{pid: p.Pid, ready: mine, ended: make(chan struct{})}
	_ = p.Release()
	if pidfd < 0 || unix.SetNonblock(pidfd, true) != nil {
		mine.Close()
		return nil, errors.New("pidfd_open requires Linux >= 5.10")
	}
	sup.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	go sup.reap()
	return sup, nil
}

// reap waits for the supervisor without taking a thread.
func (p *supervisor) reap() {
	defer close(p.ended)
	defer p.pidfd.Close()
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(uintptr) bool {
		pid, err := unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
		return pid == p.pid || err != nil && !errors.Is(err, unix.EINTR)
	})
}

func (p *supervisor) kill() {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return // reaped already
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
}

// fileSet opens files that are needed for a moment and remembers the first error.
type fileSet struct {
	files []*os.File
	err   error
}

func (s *fileSet) open(path string, flags int) *os.File {
	return s.add(os.OpenFile(path, flags, 0o600))
}

func (s *fileSet) add(f *os.File, err error) *os.File {
	if err != nil && s.err == nil {
		s.err = err
	}
	if f != nil {
		s.files = append(s.files, f)
	}
	return f
}

func (s *fileSet) close() {
	for _, f := range s.files {
		f.Close()
	}
}

func socketpair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	file := os.NewFile(uintptr(fds[0]), "ready")
	defer file.Close()
	theirs := os.NewFile(uintptr(fds[1]), "ready")
	conn, err := net.FileConn(file)
	return conn, theirs, err
}

// listen opens the socket of a bundle. It is there before the supervisor is, so that nobody has to wait for it.
func listen(bundle string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), "listener")
	err = throughFolder(bundle, func(short string) error {
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(short, shim.SocketFile)}); err != nil {
			return os.NewSyscallError("bind", err)
		}
		return os.Chmod(filepath.Join(short, shim.SocketFile), 0o600)
	})
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(fd, unix.SOMAXCONN))
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("making the supervisor's socket: %w", err)
	}
	return file, nil
}

// throughFolder calls f with a short path of a folder, because the path of a unix socket is limited to 107 bytes (unix(7)).
func throughFolder(dir string, f func(short string) error) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return f("/proc/self/fd/" + strconv.Itoa(fd))
}
