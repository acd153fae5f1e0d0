//go:build linux

package sshd

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// Payloads of requests, as RFC 4254 and OpenSSH's PROTOCOL file lay them out.
type (
	envRequest  struct{ Name, Value string }
	textRequest struct{ Text string } // exec, subsystem, signal
	sizeRequest struct{ Cols, Rows, Width, Height uint32 }
	ptyRequest  struct {
		Term                      string
		Cols, Rows, Width, Height uint32
		Modes                     string
	}
	exitStatus struct{ Status uint32 }
	exitSignal struct {
		Signal     string
		CoreDumped bool
		Message    string
		Language   string
	}
	tcpTarget struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	unixTarget struct {
		Path      string
		Reserved  string
		Reserved2 uint32
	}
	forwardRequest struct {
		Host string
		Port uint32
	}
	forwardReply         struct{ Port uint32 }
	unixForwardRequest   struct{ Path string }
	unixForwardedChannel struct{ Path, Reserved string }
)

// signals are those that RFC 4254, 6.10 names.
func signals() map[string]syscall.Signal {
	return map[string]syscall.Signal{
		"ABRT": syscall.SIGABRT, "ALRM": syscall.SIGALRM, "FPE": syscall.SIGFPE, "HUP": syscall.SIGHUP, "ILL": syscall.SIGILL,
		"INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "PIPE": syscall.SIGPIPE, "QUIT": syscall.SIGQUIT,
		"SEGV": syscall.SIGSEGV, "TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
	}
}

// signalName is the name that goes over the wire; others than RFC 4254's carry a domain.
func signalName(sig syscall.Signal) string {
	for name, s := range signals() {
		if s == sig {
			return name
		}
	}
	return strconv.Itoa(int(sig)) + "@berth"
}

// maxDimension keeps a terminal's size within what its ioctl holds.
const maxDimension = 1<<16 - 1

func clamp(n uint32) uint16 { return uint16(min(n, maxDimension)) }

// parseModes splits a pty request's encoded terminal modes (RFC 4254, 8): an opcode and a value each, up to opcode 0 or one from
// 160 on, whose form is not defined.
func parseModes(s string) (map[byte]uint32, error) {
	modes := map[byte]uint32{}
	for len(s) > 0 {
		op := s[0]
		if op == 0 || op >= 160 {
			return modes, nil
		}
		if len(s) < 5 {
			return nil, errors.New("terminal modes: cut off")
		}
		modes[op] = binary.BigEndian.Uint32([]byte(s[1:5]))
		s = s[5:]
	}
	return modes, nil
}

// validEnv tells whether a variable can be passed to a program.
func validEnv(name, value string) bool {
	return name != "" && !strings.ContainsAny(name, "=\x00") && !strings.ContainsRune(value, 0)
}

func isShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ECONNABORTED)
}

// reply answers a request that asked for an answer.
func reply(req *ssh.Request, ok bool, payload []byte) {
	if req.WantReply {
		_ = req.Reply(ok, payload)
	}
}
