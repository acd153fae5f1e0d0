//go:build linux

package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/getberth/berth/engine/container/oci"
)

// The three files that tell a container who it is and whom it can ask.
const (
	hostsFile      = "hosts"
	hostnameFile   = "hostname"
	resolvConfFile = "resolv.conf"
)

const hostGateway = "host-gateway"

// hostEntry is a line of /etc/hosts to be; gateway stands for an address that is known at the start only.
type hostEntry struct {
	name    string
	addr    netip.Addr
	gateway bool
}

// parseExtraHost reads NAME:ADDRESS or NAME=ADDRESS; the address may be host-gateway, and an IPv6 one in brackets.
func parseExtraHost(text string) (hostEntry, error) {
	bad := fmt.Errorf("invalid IP address in add-host: %q", text)
	i := strings.IndexAny(text, ":=")
	if i <= 0 {
		return hostEntry{}, fmt.Errorf("bad format for add-host: %q", text)
	}
	e := hostEntry{name: text[:i]}
	if !validHostname(e.name) {
		return hostEntry{}, fmt.Errorf("bad format for add-host: %q", text)
	}
	value := text[i+1:]
	if value == hostGateway {
		e.gateway = true
		return e, nil
	}
	if strings.HasPrefix(value, "[") && strings.HasSuffix(value, "]") {
		value = value[1 : len(value)-1]
	}
	addr, err := netip.ParseAddr(value)
	if err != nil {
		return hostEntry{}, bad
	}
	e.addr = addr
	return e, nil
}

// validHostname keeps what would break a line of /etc/hosts out of it.
func validHostname(name string) bool {
	return name != "" && len(name) <= 255 && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '#' || r == 0x7f })
}

// hostsContent writes /etc/hosts: what every host has, what was added, and the container's own names.
func hostsContent(base []byte, extra []hostEntry, own []hostEntry) []byte {
	var b bytes.Buffer
	if base != nil {
		b.Write(base)
		if !bytes.HasSuffix(base, []byte("\n")) {
			b.WriteByte('\n')
		}
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n" +
			"ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	}
	for _, e := range append(slices.Clone(extra), own...) {
		fmt.Fprintf(&b, "%s\t%s\n", e.addr, e.name)
	}
	return b.Bytes()
}

// ownEntries are the container's addresses with its hostname.
func ownEntries(spec *Spec, endpoints map[string]*network.EndpointSettings) []hostEntry {
	name := spec.Config.Hostname
	if name == "" {
		return nil
	}
	if spec.Config.Domainname != "" {
		name = name + "." + spec.Config.Domainname + " " + name
	}
	var list []hostEntry
	for _, n := range spec.Networks {
		ep := endpoints[n.Ref]
		if ep == nil {
			continue
		}
		for _, addr := range []netip.Addr{ep.IPAddress, ep.GlobalIPv6Address} {
			if addr.IsValid() {
				list = append(list, hostEntry{name: name, addr: addr})
			}
		}
	}
	return list
}

// extraEntries are those of --add-host and --link.
func (s *Service) extraEntries(spec *Spec, endpoints map[string]*network.EndpointSettings) ([]hostEntry, error) {
	var list []hostEntry
	for _, text := range spec.HostConfig.ExtraHosts {
		e, err := parseExtraHost(text)
		if err != nil {
			return nil, invalid("%v", err)
		}
		if !e.gateway {
			list = append(list, e)
			continue
		}
		gateways := s.gateways(spec, endpoints)
		if len(gateways) == 0 {
			return nil, invalid("unable to derive the IP value for host-gateway")
		}
		for _, e.addr = range gateways {
			list = append(list, e)
		}
	}
	links, err := s.linkEntries(spec)
	return append(list, links...), err
}

// gateways are the addresses by which a container reaches its host, at most one of each family.
func (s *Service) gateways(spec *Spec, endpoints map[string]*network.EndpointSettings) []netip.Addr {
	if len(s.cfg.HostGateway) > 0 {
		return s.cfg.HostGateway
	}
	for _, n := range spec.Networks {
		if ep := endpoints[n.Ref]; ep != nil && ep.Gateway.IsValid() {
			return []netip.Addr{ep.Gateway}
		}
	}
	if spec.HostConfig.NetworkMode.IsHost() {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return nil
}

// linkEntries names the containers that this one is linked to on the default bridge, which has no name server.
func (s *Service) linkEntries(spec *Spec) ([]hostEntry, error) {
	var list []hostEntry
	if spec.HostConfig.NetworkMode.IsUserDefined() {
		return nil, nil // the name server knows them
	}
	for _, link := range spec.HostConfig.Links {
		name, alias, err := linked(link)
		if err != nil {
			return nil, err
		}
		_, other, state, err := s.find(name)
		if err != nil {
			return nil, invalid("could not get container for %s: %v", name, err)
		}
		if !state.running() {
			return nil, conflict("Cannot link to a non running container: /%s AS /%s/%s", other.Name, spec.Name, alias)
		}
		ep := state.Endpoints[network.NetworkBridge]
		if ep == nil || !ep.IPAddress.IsValid() {
			continue
		}
		names := alias
		for _, n := range []string{other.Config.Hostname, other.Name} {
			if n != "" && n != alias && !strings.Contains(" "+names+" ", " "+n+" ") {
				names += " " + n
			}
		}
		list = append(list, hostEntry{name: names, addr: ep.IPAddress})
	}
	return list, nil
}

// writeNetworkFiles writes the three files and returns their mounts.
func (s *Service) writeNetworkFiles(ctx context.Context, spec *Spec, net connected, hostname string) ([]specs.Mount, error) {
	if other := spec.HostConfig.NetworkMode; other.IsContainer() {
		return s.sharedNetworkFiles(other.ConnectedContainer())
	}
	if err := s.writeHosts(spec, net.endpoints); err != nil {
		return nil, err
	}
	if err := overwrite(s.store.path(spec.ID, hostnameFile), []byte(hostname+"\n")); err != nil {
		return nil, err
	}
	resolv, err := s.resolvConf(ctx, spec)
	if err != nil {
		return nil, err
	}
	if err := overwrite(s.store.path(spec.ID, resolvConfFile), resolv); err != nil {
		return nil, err
	}
	return s.networkMounts(spec.ID), nil
}

// networkMounts: the files are writable for the container, as Docker's are, unless its root is read-only.
func (s *Service) networkMounts(id string) []specs.Mount {
	var list []specs.Mount
	for _, f := range []string{resolvConfFile, hostnameFile, hostsFile} {
		list = append(list, oci.BindFile(s.store.path(id, f), "/etc/"+f, false))
	}
	return list
}

func (s *Service) sharedNetworkFiles(id string) ([]specs.Mount, error) {
	if !fileExists(s.store.path(id, hostsFile)) {
		return nil, nil
	}
	return s.networkMounts(id), nil
}

func (s *Service) writeHosts(spec *Spec, endpoints map[string]*network.EndpointSettings) error {
	extra, err := s.extraEntries(spec, endpoints)
	if err != nil {
		return err
	}
	var base []byte
	if spec.HostConfig.NetworkMode.IsHost() {
		if base, err = os.ReadFile("/etc/hosts"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return system("reading the host's /etc/hosts: %w", err)
		}
	}
	return overwrite(s.store.path(spec.ID, hostsFile), hostsContent(base, extra, ownEntries(spec, endpoints)))
}

// refreshHosts follows a change of networks while the container runs.
func (s *Service) refreshHosts(spec *Spec, state *State) error {
	return s.writeHosts(spec, state.Endpoints)
}

// refreshResolvConf follows a change of networks while the container runs: its name server may have come or gone. A file that
// is not as it was written before is the container's own, and stays.
func (s *Service) refreshResolvConf(ctx context.Context, spec *Spec, before []byte) error {
	now, err := s.resolvConf(ctx, spec)
	if err != nil {
		return err
	}
	file := s.store.path(spec.ID, resolvConfFile)
	if found, err := os.ReadFile(file); err != nil || !bytes.Equal(found, before) {
		return err
	}
	return overwrite(file, now)
}

func (s *Service) resolvConf(ctx context.Context, spec *Spec) ([]byte, error) {
	hc := spec.HostConfig
	servers, search, options := hc.DNS, hc.DNSSearch, hc.DNSOptions
	if len(servers) == 0 {
		servers = s.cfg.DNS
	}
	if len(search) == 0 {
		search = s.cfg.DNSSearch
	}
	if len(options) == 0 {
		options = s.cfg.DNSOptions
	}
	return s.deps.Networks.ResolvConf(ctx, spec.ID, servers, search, options)
}

// overwrite keeps the inode, which a running container has mounted.
func overwrite(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	return errors.Join(err, f.Close())
}

// hostnameOf is the name that the container's kernel tells; empty when it is not the container's to set.
func (s *Service) hostnameOf(spec *Spec) (string, error) {
	hc := spec.HostConfig
	if spec.Config.Hostname != "" {
		return spec.Config.Hostname, nil
	}
	if hc.NetworkMode.IsContainer() {
		_, other, _, err := s.find(hc.NetworkMode.ConnectedContainer())
		if err != nil {
			return "", err
		}
		return s.hostnameOf(other)
	}
	return os.Hostname()
}
