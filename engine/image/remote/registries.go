package remote

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

const (
	hubDomain = "docker.io"            // as in names
	hubHost   = "registry-1.docker.io" // where it is
	hubIndex  = "index.docker.io"      // as in credentials: https://index.docker.io/v1/
)

// lookupTimeout bounds the name lookup that tells whether a registry is in an insecure network.
const lookupTimeout = 5 * time.Second

// Registries is the configuration of registries. It is safe for concurrent use.
type Registries struct {
	mirrors       []*url.URL // of docker.io, in order
	insecureHosts []string   // host or host:port
	insecureNets  []netip.Prefix
	userAgent     string
	certDir       string
}

// New checks the configuration. mirrors are http(s)://host[:port] and stand in for docker.io; insecure are host, host:port or
// CIDR. 127.0.0.0/8 and ::1 are always insecure. The error is errdefs.ErrInvalidArgument.
func New(mirrors, insecure []string, userAgent string) (*Registries, error) {
	r := &Registries{userAgent: userAgent, certDir: defaultCertDir, insecureNets: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
	}}
	for _, m := range mirrors {
		u, err := parseMirror(m)
		if err != nil {
			return nil, err
		}
		r.mirrors = append(r.mirrors, u)
	}
	for _, i := range insecure {
		if err := r.addInsecure(i); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func parseMirror(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, invalid("invalid mirror: %q is not a valid URL", text)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, invalid("invalid mirror: %q requires http:// or https://", text)
	case u.Host == "":
		return nil, invalid("invalid mirror: %q has no host", text)
	case u.User != nil:
		return nil, invalid("invalid mirror: a user or password in the URL is not supported")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, invalid("invalid mirror: %q: path, query and fragment are not supported", text)
	}
	return u, nil
}

func (r *Registries) addInsecure(text string) error {
	if p, err := netip.ParsePrefix(text); err == nil {
		r.insecureNets = append(r.insecureNets, p.Masked())
		return nil
	}
	if strings.Contains(text, "://") || strings.ContainsAny(text, "/?#@ ") || text == "" {
		return invalid("invalid insecure registry %q: requires host[:port] or a network such as 10.0.0.0/8", text)
	}
	r.insecureHosts = append(r.insecureHosts, strings.ToLower(text))
	return nil
}

// Insecure reports whether host, which may have a port, may be asked without a valid certificate, or in plain HTTP.
func (r *Registries) Insecure(ctx context.Context, host string) bool {
	host = strings.ToLower(host)
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if slices.Contains(r.insecureHosts, host) || slices.Contains(r.insecureHosts, name) {
		return true
	}
	return slices.ContainsFunc(r.addresses(ctx, name), r.insecureAddr)
}

func (r *Registries) insecureAddr(a netip.Addr) bool {
	return slices.ContainsFunc(r.insecureNets, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}

// addresses are those of name. Only a configured network makes the lookup of a name worth its time.
func (r *Registries) addresses(ctx context.Context, name string) []netip.Addr {
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return []netip.Addr{a}
	}
	if name == "localhost" {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	if len(r.insecureNets) == 2 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil // unknown is secure
	}
	return addrs
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}
