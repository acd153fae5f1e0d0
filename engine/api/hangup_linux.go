package api

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// watchHangup calls gone, once and on a goroutine of its own, when the peer has closed both directions of a connection. A peer
// that has only finished sending has not gone, and a blocked read tells them apart no more than a finished one: so it asks
// poll(2), through a second descriptor of the socket, because a read holds the first.
func watchHangup(conn net.Conn, gone func()) (io.Closer, error) {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(s uintptr) { fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("fcntl", dupErr)
	}
	f := os.NewFile(uintptr(fd), "socket")
	second, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	go func() {
		if second.Read(hasHungUp) == nil {
			gone()
		}
	}()
	return f, nil
}

// hasHungUp is called by the runtime whenever the socket's readiness changes, and ends the wait when it is true.
func hasHungUp(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}
