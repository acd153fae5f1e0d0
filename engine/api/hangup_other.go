//go:build !linux

package api

import (
	"errors"
	"io"
	"net"
)

// watchHangup is there on Linux only, the one system that the engine runs on.
func watchHangup(net.Conn, func()) (io.Closer, error) { return nil, errors.ErrUnsupported }
