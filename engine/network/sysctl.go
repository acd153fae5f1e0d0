package network

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const sysctlRoot = "/proc/sys/net"

// setSysctl writes a value below /proc/sys/net unless it is there already. It is that of the namespace of the thread.
func setSysctl(value string, elem ...string) error {
	path := filepath.Join(sysctlRoot, filepath.Join(elem...))
	if have, err := os.ReadFile(path); err == nil && string(bytes.TrimSpace(have)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		name := strings.ReplaceAll(strings.TrimPrefix(path, "/proc/sys/"), "/", ".")
		return fmt.Errorf("setting %s to %s: %w", name, value, err)
	}
	return nil
}

func enableForwarding() error {
	if err := setSysctl("1", "ipv4", "ip_forward"); err != nil {
		return fmt.Errorf("containers reach no other host: %w (set net.ipv4.ip_forward=1 on the host)", err)
	}
	return nil
}

// disableIPv6 keeps a link, or those to come ("default"), from having IPv6 addresses. A kernel without IPv6 has none anyway.
func disableIPv6(link string, off bool) error {
	value := "0"
	if off {
		value = "1"
	}
	err := setSysctl(value, "ipv6", "conf", link, "disable_ipv6")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// hasIPv6 reports whether this host has any IPv6 address, be it on loopback.
func hasIPv6() bool {
	data, err := os.ReadFile("/proc/self/net/if_inet6")
	return err == nil && len(data) > 0
}

// noteSysctl logs a setting that could not be made; containers work without it.
func (s *Service) noteSysctl(n *bridgeNetwork, err error) {
	s.log.Warn("a kernel setting is missing", "network", n.rec.Name, "error", err)
}
