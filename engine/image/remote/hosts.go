package remote

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/moby/moby/api/types/registry"
)

// Session reaches the registries of one operation with one client's credentials. Close it to end its connections.
type Session struct {
	registries *Registries
	auth       *registry.AuthConfig
	hosts      []docker.RegistryHost
	Tracker    docker.StatusTracker // of uploads
}

// Session prepares for names of a domain, e.g. "docker.io". auth may be nil. ctx bounds the preparation only.
func (r *Registries) Session(ctx context.Context, domain string, auth *registry.AuthConfig) *Session {
	s := &Session{registries: r, auth: auth, Tracker: docker.NewInMemoryTracker()}
	const pull = docker.HostCapabilityPull | docker.HostCapabilityResolve
	if domain == hubDomain {
		for _, m := range r.mirrors {
			// A mirror is not asked with the credentials that were given for Docker Hub.
			s.hosts = append(s.hosts, s.host(ctx, m.Scheme, m.Host, pull, nil))
		}
	}
	host := domain
	if domain == hubDomain {
		host = hubHost
	}
	s.hosts = append(s.hosts, s.host(ctx, "https", host, pull|docker.HostCapabilityPush, s.credentials(domain)))
	return s
}

// Close ends the session's connections.
func (s *Session) Close() {
	for _, h := range s.hosts {
		h.Client.CloseIdleConnections()
	}
}

// Resolver is containerd's view of the session.
func (s *Session) Resolver() remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{
		Hosts:   func(string) ([]docker.RegistryHost, error) { return s.hosts, nil },
		Tracker: s.Tracker,
	})
}

func (s *Session) host(ctx context.Context, scheme, host string, caps docker.HostCapabilities, creds credentials) docker.RegistryHost {
	client := s.registries.client(host, scheme == "https" && s.registries.Insecure(ctx, host))
	h := docker.RegistryHost{
		Client: client, Host: host, Scheme: scheme, Path: "/v2", Capabilities: caps, Header: http.Header{},
	}
	if creds == nil {
		creds = func(string) (string, string, error) { return "", "", nil }
	}
	h.Authorizer = docker.NewDockerAuthorizer(docker.WithAuthClient(client), docker.WithAuthCreds(creds))
	if s.auth != nil && s.auth.RegistryToken != "" && caps.Has(docker.HostCapabilityPush) {
		h.Authorizer = nil
		h.Header.Set("Authorization", "Bearer "+s.auth.RegistryToken)
	}
	return h
}

type credentials func(host string) (username, secret string, err error)

// credentials are handed to the host that they were given for and to no other, wherever a redirect or a challenge leads.
func (s *Session) credentials(domain string) credentials {
	if s.auth == nil {
		return nil
	}
	want := ServerHost(s.auth.ServerAddress)
	if want == "" {
		want = domain
	}
	if want == hubDomain || want == hubIndex {
		want = hubHost
	}
	username, secret := secrets(*s.auth)
	return func(host string) (string, string, error) {
		if host != want {
			return "", "", nil
		}
		return username, secret, nil
	}
}

// secrets reads the three forms in which clients send credentials. With an identity token there is no user name.
func secrets(a registry.AuthConfig) (username, secret string) {
	if a.IdentityToken != "" {
		return "", a.IdentityToken
	}
	if a.Username == "" && a.Password == "" && a.Auth != "" {
		if raw, err := base64.StdEncoding.DecodeString(a.Auth); err == nil {
			u, p, _ := strings.Cut(string(raw), ":")
			return u, strings.TrimRight(p, "\x00")
		}
	}
	return a.Username, a.Password
}

// ServerHost is the host[:port] of a server address as clients send it: with or without a scheme and a path.
func ServerHost(address string) string {
	if strings.Contains(address, "://") {
		u, err := url.Parse(address)
		if err != nil {
			return ""
		}
		return u.Host
	}
	host, _, _ := strings.Cut(address, "/")
	return host
}
