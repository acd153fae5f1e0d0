//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/runtime/shim"
)

// supervisor is one that this engine has started.
type supervisor struct {
	pid     int
	pidfd   *os.File
	control *net.UnixConn
	ended   chan struct{} // closed when the process was reaped
}

// spawn starts a supervisor, in a session of its own, that waits for a bundle.
func (s *Service) spawn() (*supervisor, error) {
	image, err := s.program.load()
	if err != nil {
		return nil, err
	}
	mine, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		mine.Close()
		return nil, err
	}
	defer null.Close()
	var pidfd int
	// A path through our own pid, because what the child does with its descriptors before it executes could hit the program.
	program := "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(image.Fd()))
	p, err := os.StartProcess(program, []string{"berth-shim", strings.Repeat(" ", shim.MaxTitle)}, &os.ProcAttr{
		// One container leaves little to do at a time, and each processor of Go's has its own caches.
		Dir: "/", Env: []string{"GOMAXPROCS=1"}, Files: []*os.File{null, null, null, theirs},
		Sys: &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	})
	if err != nil {
		mine.Close()
		return nil, err
	}
	sup := &supervisor{pid: p.Pid, control: mine, ended: make(chan struct{})}
	_ = p.Release()
	if pidfd < 0 || unix.SetNonblock(pidfd, true) != nil {
		mine.Close()
		return nil, errors.New("pidfd_open requires Linux >= 5.10")
	}
	sup.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	go sup.reap()
	return sup, nil
}

// assign gives a waiting supervisor its bundle.
func (p *supervisor) assign(bundle string) error {
	listener, err := listen(bundle)
	if err != nil {
		return err
	}
	defer listener.Close()
	log, err := os.OpenFile(filepath.Join(bundle, shim.LogFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	_, _, err = p.control.WriteMsgUnix([]byte(bundle), unix.UnixRights(int(listener.Fd()), int(log.Fd())), nil)
	return err
}

// spares keeps a supervisor waiting, so that a container need not wait for one to start. With the engine it ends.
type spares struct {
	mu     sync.Mutex // guards what follows
	ready  *supervisor
	closed bool
}

// takeSupervisor returns the spare one, or a new one.
func (s *Service) takeSupervisor() (*supervisor, error) {
	s.spares.mu.Lock()
	sup := s.spares.ready
	s.spares.ready = nil
	s.spares.mu.Unlock()
	if sup != nil {
		select {
		case <-sup.ended: // somebody has killed it
			sup.control.Close()
		default:
			return sup, nil
		}
	}
	return s.spawn()
}

// refill starts a spare supervisor if there is none. It is an optimization: what fails here fails visibly when one is needed.
func (s *Service) refill() {
	s.spares.mu.Lock()
	defer s.spares.mu.Unlock()
	if s.spares.ready == nil && !s.spares.closed {
		s.spares.ready, _ = s.spawn()
	}
}

// close ends the spare supervisor and waits for its end.
func (s *spares) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.ready != nil {
		s.ready.control.Close()
		<-s.ready.ended
		s.ready = nil
	}
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

func socketpair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	file, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn.(*net.UnixConn), theirs, nil
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
