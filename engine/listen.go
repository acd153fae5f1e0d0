//go:build linux

package engine

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/getberth/berth/engine/config"
)

// defaultGroup owns the unix socket where there is such a group, as with Docker.
const defaultGroup = "docker"

// listen opens all of the engine's addresses, or none.
func listen(c config.Config, log *slog.Logger) (listeners []net.Listener, err error) {
	addresses, err := c.Listeners()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			closeAll(listeners)
		}
	}()
	var certs *certificates
	if c.UsesTLS() {
		certs = newCertificates(c, log)
		if err := certs.check(c.TLSAwait); err != nil {
			return nil, err
		}
	}
	for _, a := range addresses {
		l, err := listenOn(a, c.Group, certs)
		if err != nil {
			return listeners, fmt.Errorf("listening on %s://%s: %w", a.Network, a.Address, err)
		}
		listeners = append(listeners, l)
		if a.Network == "tcp" && certs == nil {
			log.Warn("whoever can connect to this address is root on this machine", "address", a.Address)
		}
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

func listenOn(a config.Listener, group string, certs *certificates) (net.Listener, error) {
	if a.Network == "unix" {
		return listenUnix(a.Address, group)
	}
	l, err := net.Listen(family(a.Address), a.Address)
	if err != nil || certs == nil {
		return l, err
	}
	return tls.NewListener(l, certs.serverConfig()), nil
}

// family keeps 0.0.0.0 from meaning IPv6 as well, as it does to package net.
func family(address string) string {
	if a, err := netip.ParseAddrPort(address); err == nil && a.Addr().Is4() {
		return "tcp4"
	}
	return "tcp"
}

// listenUnix makes a socket that root and one group may use. One that a dead engine has left is replaced.
func listenUnix(path, group string) (net.Listener, error) {
	gid, err := lookupGroup(group)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// Between here and Chmod only root can connect: that takes the right to write, which no usual umask leaves to others.
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	mode := fs.FileMode(0o600)
	if gid >= 0 {
		mode = 0o660
		err = os.Chown(path, 0, gid)
	}
	if err = errors.Join(err, os.Chmod(path, mode)); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// lookupGroup returns the id of the socket's group, -1 for none. A group that was asked for must exist.
func lookupGroup(name string) (int, error) {
	asked := name != ""
	if !asked {
		name = defaultGroup
	}
	if gid, err := strconv.Atoi(name); err == nil {
		return gid, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		if asked {
			return -1, err
		}
		return -1, nil
	}
	return strconv.Atoi(g.Gid)
}

// removeStale removes a socket on which no one listens. Anything else in its place is left alone.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("it exists and is no socket")
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return errors.New("another process listens on it")
	}
	return os.Remove(path)
}

func inode(info fs.FileInfo) [2]uint64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return [2]uint64{}
	}
	return [2]uint64{uint64(st.Dev), st.Ino}
}
