package sshutil

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// SOCKS5, RFC 1928: CONNECT without authentication.
const (
	socksVersion    = 5
	socksNoAuth     = 0
	socksNoneFits   = 0xff
	socksConnect    = 1
	socksIPv4       = 1
	socksName       = 3
	socksIPv6       = 4
	socksOK         = 0
	socksFailed     = 1
	socksBadCommand = 7
	socksBadAddress = 8
)

// socksTimeout is how long a client may take to say where it wants to go.
const socksTimeout = 10 * time.Second

// socks negotiates with a client and returns the connection that it asked for.
func socks(conn net.Conn, dial func(address string) (net.Conn, error)) (net.Conn, error) {
	_ = conn.SetDeadline(time.Now().Add(socksTimeout))
	address, code, err := socksRequest(conn)
	_ = conn.SetDeadline(time.Time{})
	if err != nil {
		if code != socksOK {
			_ = socksReply(conn, code)
		}
		return nil, err
	}
	far, err := dial(address)
	if err != nil {
		_ = socksReply(conn, socksFailed)
		return nil, err
	}
	if err := socksReply(conn, socksOK); err != nil {
		far.Close()
		return nil, err
	}
	return far, nil
}

// socksRequest reads the greeting and the request. With an error, code is what to answer, socksOK for nothing.
func socksRequest(conn io.ReadWriter) (address string, code byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:2]); err != nil {
		return "", socksOK, err
	}
	if head[0] != socksVersion {
		return "", socksOK, fmt.Errorf("not SOCKS5: version %d", head[0])
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(conn, methods); err != nil {
		return "", socksOK, err
	}
	choice := byte(socksNoneFits)
	for _, m := range methods {
		if m == socksNoAuth {
			choice = socksNoAuth
		}
	}
	if _, err := conn.Write([]byte{socksVersion, choice}); err != nil {
		return "", socksOK, err
	}
	if choice != socksNoAuth {
		return "", socksOK, errors.New("the SOCKS client insists on authentication")
	}
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return "", socksOK, err
	}
	if head[0] != socksVersion || head[1] != socksConnect {
		return "", socksBadCommand, fmt.Errorf("SOCKS command %d is not supported", head[1])
	}
	return socksAddress(conn, head[3])
}

func socksAddress(r io.Reader, kind byte) (address string, code byte, err error) {
	size := map[byte]int{socksIPv4: 4, socksIPv6: 16}[kind]
	if kind == socksName {
		var n [1]byte
		if _, err := io.ReadFull(r, n[:]); err != nil {
			return "", socksOK, err
		}
		size = int(n[0])
	}
	if size == 0 {
		return "", socksBadAddress, fmt.Errorf("SOCKS address of kind %d is not supported", kind)
	}
	buf := make([]byte, size+2)
	if _, err := io.ReadFull(r, buf); err != nil {
		return "", socksOK, err
	}
	host := string(buf[:size])
	if kind != socksName {
		ip, _ := netip.AddrFromSlice(buf[:size])
		host = ip.String()
	}
	port := binary.BigEndian.Uint16(buf[size:])
	return net.JoinHostPort(host, strconv.Itoa(int(port))), socksOK, nil
}

// socksReply answers a request; the bound address in it is of no use to anyone.
func socksReply(w io.Writer, code byte) error {
	_, err := w.Write([]byte{socksVersion, code, 0, socksIPv4, 0, 0, 0, 0, 0, 0})
	return err
}
