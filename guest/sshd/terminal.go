//go:build linux

package sshd

import (
	"errors"
	"fmt"
	"os"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// openTerminal opens a terminal. Its near end can be closed while it is read, which the file that pty opens cannot: os.File.Fd,
// which pty calls, makes it blocking for good.
func openTerminal() (near, far *os.File, err error) {
	blocking, far, err := pty.Open()
	if err != nil {
		return nil, nil, err
	}
	defer blocking.Close()
	fd, err := unix.FcntlInt(blocking.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		far.Close()
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd), blocking.Name()), far, nil
}

// control runs f with a file's descriptor and leaves the file's mode alone.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = f(int(fd)) })
	return errors.Join(err, inner)
}

// setModes applies the client's terminal modes, as far as Linux knows them, to a new terminal.
func setModes(f *os.File, encoded string) error {
	modes, err := parseModes(encoded)
	if err != nil {
		return err
	}
	err = control(f, func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		for op, value := range modes {
			applyMode(t, op, value)
		}
		return unix.IoctlSetTermios(fd, unix.TCSETS, t)
	})
	if err != nil {
		return fmt.Errorf("setting the terminal's modes: %w", err)
	}
	return nil
}

// applyMode sets what one opcode of RFC 4254, 8 stands for; an unknown one is passed over, as the RFC asks.
func applyMode(t *unix.Termios, op byte, value uint32) {
	if i, ok := controlChars()[op]; ok {
		c := byte(value)
		if value > 254 { // 255 disables the character, which is 0 on Linux (_POSIX_VDISABLE)
			c = 0
		}
		t.Cc[i] = c
		return
	}
	m, ok := flagModes()[op]
	if !ok {
		return
	}
	field := m.field(t)
	if value != 0 {
		*field |= m.flag
		return
	}
	*field &^= m.flag
}

func controlChars() map[byte]int {
	return map[byte]int{
		1: unix.VINTR, 2: unix.VQUIT, 3: unix.VERASE, 4: unix.VKILL, 5: unix.VEOF, 6: unix.VEOL, 7: unix.VEOL2, 8: unix.VSTART,
		9: unix.VSTOP, 10: unix.VSUSP, 12: unix.VREPRINT, 13: unix.VWERASE, 14: unix.VLNEXT, 18: unix.VDISCARD,
	}
}

// flagMode is a bit in one of a termios's words.
type flagMode struct {
	field func(*unix.Termios) *uint32
	flag  uint32
}

func flagModes() map[byte]flagMode {
	in := func(t *unix.Termios) *uint32 { return &t.Iflag }
	local := func(t *unix.Termios) *uint32 { return &t.Lflag }
	out := func(t *unix.Termios) *uint32 { return &t.Oflag }
	return map[byte]flagMode{
		30: {in, unix.IGNPAR}, 31: {in, unix.PARMRK}, 32: {in, unix.INPCK}, 33: {in, unix.ISTRIP}, 34: {in, unix.INLCR},
		35: {in, unix.IGNCR}, 36: {in, unix.ICRNL}, 37: {in, unix.IUCLC}, 38: {in, unix.IXON}, 39: {in, unix.IXANY},
		40: {in, unix.IXOFF}, 41: {in, unix.IMAXBEL}, 42: {in, unix.IUTF8},
		50: {local, unix.ISIG}, 51: {local, unix.ICANON}, 52: {local, unix.XCASE}, 53: {local, unix.ECHO}, 54: {local, unix.ECHOE},
		55: {local, unix.ECHOK}, 56: {local, unix.ECHONL}, 57: {local, unix.NOFLSH}, 58: {local, unix.TOSTOP},
		59: {local, unix.IEXTEN}, 60: {local, unix.ECHOCTL}, 61: {local, unix.ECHOKE}, 62: {local, unix.PENDIN},
		70: {out, unix.OPOST}, 71: {out, unix.OLCUC}, 72: {out, unix.ONLCR}, 73: {out, unix.OCRNL}, 74: {out, unix.ONOCR},
		75: {out, unix.ONLRET},
	}
}
