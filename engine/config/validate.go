package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Listener is one address that the engine serves on.
type Listener struct {
	Network string // "unix" or "tcp"
	Address string // absolute path, or host:port
}

// Loopback reports whether only this machine can reach the listener.
func (l Listener) Loopback() bool {
	if l.Network == "unix" {
		return true
	}
	host, _, _ := net.SplitHostPort(l.Address)
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// Port is the TCP port of a listener, 0 for a unix socket.
func (l Listener) Port() uint16 {
	_, text, _ := net.SplitHostPort(l.Address)
	port, _ := strconv.ParseUint(text, 10, 16)
	return uint16(port)
}

// Listeners are the addresses of c.Hosts. Without a port it is Docker's: 2376 with TLS, 2375 without.
func (c Config) Listeners() ([]Listener, error) {
	listeners := make([]Listener, 0, len(c.Hosts))
	for _, host := range c.Hosts {
		l, err := parseHost(host, c.UsesTLS())
		if err != nil {
			return nil, fmt.Errorf("host %q: %w", host, err)
		}
		if slices.Contains(listeners, l) {
			return nil, fmt.Errorf("host %q is given twice", host)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// TCPPort is that of the first TCP address in c.Hosts; 0 when there is none, or one that is no address.
func (c Config) TCPPort() uint16 {
	listeners, err := c.Listeners()
	if err != nil {
		return 0
	}
	for _, l := range listeners {
		if l.Network == "tcp" {
			return l.Port()
		}
	}
	return 0
}

// UsesTLS reports whether TCP listeners speak TLS.
func (c Config) UsesTLS() bool { return c.TLS || c.TLSVerify }

func parseHost(host string, tls bool) (Listener, error) {
	scheme, rest, ok := strings.Cut(host, "://")
	if !ok {
		return Listener{}, errors.New(`it must start with "unix://" or "tcp://"`)
	}
	switch scheme {
	case "unix":
		if rest == "" {
			rest = Socket
		}
		if !strings.HasPrefix(rest, "/") {
			return Listener{}, errors.New("a unix socket's path must be absolute")
		}
		return Listener{Network: "unix", Address: filepath.ToSlash(filepath.Clean(rest))}, nil
	case "tcp":
		return parseTCP(rest, tls)
	}
	return Listener{}, fmt.Errorf("%s is not supported, only unix and tcp are", scheme)
}

func parseTCP(rest string, tls bool) (Listener, error) {
	u, err := url.Parse("tcp://" + rest)
	if err != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
		return Listener{}, errors.New("it must be tcp://ADDRESS:PORT")
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "2375"
		if tls {
			port = strconv.Itoa(EnginePort)
		}
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
		return Listener{}, fmt.Errorf("%q is not an IP address", host)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return Listener{}, fmt.Errorf("%q is not a port", port)
	}
	return Listener{Network: "tcp", Address: net.JoinHostPort(host, port)}, nil
}

// Validate refuses what the engine cannot honour, each with its key.
func (c Config) Validate() error {
	checks := []func() error{
		c.checkHosts, c.checkLevels, c.checkStorage, c.checkLabels, c.checkDNS, c.checkNetwork, c.checkGateways, c.checkRuntime,
		c.checkContainers, c.DefaultUlimits.check, c.AddressPools.check, c.checkFeatures,
	}
	var errs []error
	for _, check := range checks {
		errs = append(errs, check())
	}
	return errors.Join(errs...)
}

// checkHosts holds that a TCP port is either mutual TLS or for this machine only: who reaches it is root here.
func (c Config) checkHosts() error {
	listeners, err := c.Listeners()
	if err != nil {
		return err
	}
	for _, l := range listeners {
		if !l.Loopback() && !c.TLSVerify {
			return fmt.Errorf("host tcp://%s: whoever can connect would be root on this machine; it requires tlsverify", l.Address)
		}
	}
	return nil
}

func (c Config) checkLevels() error {
	if c.LogLevel != "" && !slices.Contains([]string{"debug", "info", "warn", "error", "fatal"}, c.LogLevel) {
		return fmt.Errorf("invalid logging level: %s", c.LogLevel)
	}
	if !slices.Contains([]string{"", "text", "json"}, c.LogFormat) {
		return fmt.Errorf("invalid log format: %s: it is text or json", c.LogFormat)
	}
	if drivers := LogDrivers(); c.LogDriver != "" && !slices.Contains(drivers, c.LogDriver) {
		return fmt.Errorf("log-driver %q is not supported, only %s are", c.LogDriver, strings.Join(drivers, ", "))
	}
	return c.checkNumbers()
}

// LogDrivers are those of containers' output.
func LogDrivers() []string { return []string{"journald", "json-file", "local", "none", "syslog"} }

func (c Config) checkNumbers() error {
	for _, n := range []struct {
		key   string
		value int
	}{
		{"shutdown-timeout", c.ShutdownTimeout}, {"max-concurrent-downloads", c.MaxConcurrentDownloads},
		{"max-concurrent-uploads", c.MaxConcurrentUploads}, {"max-download-attempts", c.MaxDownloadAttempts}, {"mtu", c.MTU},
	} {
		if n.value < 0 {
			return fmt.Errorf("%s %d is negative", n.key, n.value)
		}
	}
	if t := c.DefaultStopTimeout; t != nil && *t < 0 {
		return fmt.Errorf("default-stop-timeout %d is negative", *t)
	}
	if c.MTU != 0 && (c.MTU < 68 || c.MTU > 65535) {
		return fmt.Errorf("mtu %d is not between 68 and 65535", c.MTU)
	}
	return nil
}

func (c Config) checkStorage() error {
	if !slices.Contains([]string{"", "overlayfs", "overlay2", "native", "vfs"}, c.StorageDriver) {
		return fmt.Errorf("storage-driver %q is not supported, only overlayfs and native are", c.StorageDriver)
	}
	return nil
}

func (c Config) checkLabels() error {
	seen := map[string]string{}
	for _, label := range c.Labels {
		key, value, ok := strings.Cut(label, "=")
		if !ok || key == "" {
			return fmt.Errorf("bad attribute format: %s: labels must be key=value", label)
		}
		if have, ok := seen[key]; ok && have != value {
			return fmt.Errorf("conflict labels for %s=%s and %s=%s", key, value, key, have)
		}
		seen[key] = value
	}
	return nil
}

func (c Config) checkDNS() error {
	for _, server := range c.DNS {
		if _, err := netip.ParseAddr(server); err != nil {
			return fmt.Errorf("dns: %s is not an ip address", server)
		}
	}
	return nil
}

func (c Config) checkNetwork() error {
	if c.BIP != "" {
		prefix, err := netip.ParsePrefix(c.BIP)
		if err != nil || !prefix.Addr().Is4() || prefix.Masked().Addr() == prefix.Addr() {
			return fmt.Errorf("bip %q is not an address with its subnet, e.g. 172.17.0.1/16", c.BIP)
		}
		if c.Bridge != "" {
			return errors.New("you specified -b & --bip, mutually exclusive options. Please specify only one")
		}
	}
	return errors.Join(c.checkFixedCIDR(), c.checkIP())
}

// checkFixedCIDR wants a part of a subnet that is known beforehand.
func (c Config) checkFixedCIDR() error {
	if c.FixedCIDR == "" {
		return nil
	}
	part, err := netip.ParsePrefix(c.FixedCIDR)
	if err != nil || !part.Addr().Is4() {
		return fmt.Errorf("fixed-cidr %q is not a subnet of IPv4", c.FixedCIDR)
	}
	whole, err := netip.ParsePrefix(c.BIP)
	if err != nil || !whole.Masked().Contains(part.Addr()) || part.Bits() < whole.Bits() {
		return fmt.Errorf("fixed-cidr %s is to be a part of bip's subnet", c.FixedCIDR)
	}
	return nil
}

func (c Config) checkIP() error {
	if c.IP == "" {
		return nil
	}
	if a, err := netip.ParseAddr(c.IP); err != nil || !a.Is4() {
		return fmt.Errorf("ip %q is not an IPv4 address", c.IP)
	}
	return nil
}

func (c Config) checkRuntime() error {
	if c.DefaultRuntime != "" && c.DefaultRuntime != "runc" {
		return fmt.Errorf("default-runtime %q is not supported, only runc is", c.DefaultRuntime)
	}
	return nil
}

// checkGateways wants at most one address of each family.
func (c Config) checkGateways() error {
	var have [2]bool
	for _, text := range c.HostGatewayIPs {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("host-gateway-ips: %s is not an ip address", text)
		}
		family := 0
		if a.Is6() {
			family = 1
		}
		if have[family] {
			return errors.New("host-gateway-ips: only one IPv4 and one IPv6 address can be specified")
		}
		have[family] = true
	}
	return nil
}

// checkContainers checks what containers get that ask for nothing.
func (c Config) checkContainers() error {
	switch {
	case !slices.Contains([]string{"", "private", "shareable"}, c.DefaultIPCMode):
		return fmt.Errorf(`IPC mode "%s" is not supported as default value; use "shareable" or "private"`, c.DefaultIPCMode)
	case !slices.Contains([]string{"", "private", "host"}, c.DefaultCgroupnsMode):
		return fmt.Errorf(`invalid default cgroup namespace (%s): use "host" or "private"`, c.DefaultCgroupnsMode)
	case c.DefaultShmSize < 0:
		return fmt.Errorf("default-shm-size %d is negative", c.DefaultShmSize)
	case c.SeccompProfile != "" && c.SeccompProfile != "builtin" && c.SeccompProfile != "unconfined" && !strings.HasPrefix(c.SeccompProfile, "/"):
		return fmt.Errorf("seccomp-profile %q is neither builtin nor unconfined nor the absolute path of a file", c.SeccompProfile)
	}
	return nil
}

func (c Config) checkFeatures() error {
	for _, name := range slices.Sorted(maps.Keys(c.Features)) {
		switch {
		case name == "buildkit": // which builder clients choose; there is none to choose from
		case name != "containerd-snapshotter" && !c.Features[name]: // nor is it there
		case name != "containerd-snapshotter":
			return fmt.Errorf("features: %s is not supported", name)
		case !c.Features[name]:
			return errors.New("features: containerd-snapshotter cannot be turned off")
		}
	}
	return nil
}
