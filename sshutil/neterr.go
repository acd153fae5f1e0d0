package sshutil

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// The numbers of Windows's socket errors, which syscall's portable names do not match there; see "Windows Sockets Error Codes".
const (
	wsaNetUnreach  = syscall.Errno(10051)
	wsaConnAborted = syscall.Errno(10053)
	wsaConnReset   = syscall.Errno(10054)
	wsaConnRefused = syscall.Errno(10061)
	wsaHostUnreach = syscall.Errno(10065)
)

func isRefused(err error) bool {
	var open *ssh.OpenChannelError // when dialled through another machine
	if errors.As(err, &open) {
		return open.Reason == ssh.ConnectionFailed && strings.Contains(strings.ToLower(open.Message), "refused")
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, wsaConnRefused)
}

func isUnreachable(err error) bool {
	return errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTDOWN) ||
		errors.Is(err, wsaNetUnreach) || errors.Is(err, wsaHostUnreach)
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, wsaConnReset) ||
		errors.Is(err, wsaConnAborted)
}

func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || isReset(err) || isUnopened(err)
}

// isUnopened tells that the connection ended while a channel of it was to be opened, for which x/crypto/ssh has no error of its own:
// it takes the end for an answer that is nothing. Source: mux.OpenChannel.
func isUnopened(err error) bool {
	return err != nil && strings.HasSuffix(err.Error(), "in response to channel open: <nil>")
}
