package network

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

const (
	hostResolvConf = "/etc/resolv.conf"
	// resolvedConf lists the resolvers that systemd-resolved asks; /etc/resolv.conf then names but its address on loopback.
	resolvedConf  = "/run/systemd/resolve/resolv.conf"
	maxResolvConf = 64 << 10 // bytes
	maxServers    = 16
)

// resolvConf is what matters of a resolv.conf(5).
type resolvConf struct {
	servers []netip.Addr
	search  []string
	options []string
}

// readResolvConf returns what can be read; a missing file says nothing.
func readResolvConf(path string) resolvConf {
	data, err := os.ReadFile(path)
	if err != nil {
		return resolvConf{}
	}
	return parseResolvConf(data)
}

func parseResolvConf(data []byte) resolvConf {
	var c resolvConf
	for line := range bytes.Lines(data[:min(len(data), maxResolvConf)]) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(fields[1]); err == nil && len(c.servers) < maxServers {
				c.servers = append(c.servers, a)
			}
		case "search", "domain": // the last one counts
			c.search = fields[1:]
		case "options":
			c.options = append(c.options, fields[1:]...)
		}
	}
	return c
}

// ResolvConf is the content of the container's /etc/resolv.conf, for the networks that it is in now. On a user-defined
// network it names 127.0.0.11, which passes other names on to servers.
func (s *Service) ResolvConf(ctx context.Context, containerID string, servers []netip.Addr, search, options []string) ([]byte, error) {
	host := readResolvConf(hostResolvConf)
	conf := resolvConf{
		servers: firstOf(servers, s.cfg.DNS),
		search:  firstOf(search, s.cfg.DNSSearch, host.search),
		options: firstOf(options, s.cfg.DNSOptions, host.options),
	}
	sb := s.enter(containerID, false)
	if sb == nil || sb.rec.Path == "" {
		if sb != nil {
			sb.mu.Unlock()
		}
		conf.servers = firstOf(conf.servers, host.servers) // the host's namespace: its loopback is theirs
		return conf.format(), nil
	}
	defer sb.mu.Unlock()
	return s.sandboxConf(sb, conf, servers)
}

func (s *Service) sandboxConf(sb *sandbox, conf resolvConf, asked []netip.Addr) ([]byte, error) {
	s.mu.Lock()
	sb.rec.Servers = slices.Clone(asked)
	s.mu.Unlock()
	named := s.hasNames(sb)
	if !named && len(conf.servers) == 0 {
		conf.servers = reachable(readResolvConf(hostResolvConf).servers)
		if len(conf.servers) == 0 {
			conf.servers = reachable(readResolvConf(resolvedConf).servers)
		}
	}
	// The host has resolvers on its loopback only: the engine asks them for the container.
	sb.rec.Forward = !named && len(conf.servers) == 0 && s.gatewayOf(sb) != nil && len(readResolvConf(hostResolvConf).servers) > 0
	if named || sb.rec.Forward {
		conf.servers = []netip.Addr{resolverAddr()}
	}
	if named && !slices.ContainsFunc(conf.options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		conf.options = append(slices.Clone(conf.options), "ndots:0") // names without a dot are asked as they are
	}
	if err := s.ensureResolver(sb); err != nil {
		return nil, err
	}
	return conf.format(), s.save(sb)
}

// reachable leaves out what a container's own loopback, or its lack of IPv6, hides.
func reachable(servers []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(servers), func(a netip.Addr) bool { return a.IsLoopback() || !a.Unmap().Is4() })
}

func firstOf[T any](lists ...[]T) []T {
	for _, l := range lists {
		if len(l) > 0 {
			return l
		}
	}
	return nil
}

func (c resolvConf) format() []byte {
	var b bytes.Buffer
	for _, a := range c.servers {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if search := slices.DeleteFunc(slices.Clone(c.search), func(d string) bool { return d == "." }); len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", oneLine(search))
	}
	if len(c.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", oneLine(c.options))
	}
	return b.Bytes()
}

// oneLine keeps a client's words from adding lines of their own.
func oneLine(words []string) string {
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}
