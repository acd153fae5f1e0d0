package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
)

// Login checks credentials against the registry at auth.ServerAddress; empty means Docker Hub.
// The error is errdefs.ErrUnauthenticated when they are refused.
func (r *Registries) Login(ctx context.Context, auth registry.AuthConfig) (registry.AuthResponse, error) {
	domain := ServerHost(auth.ServerAddress)
	if domain == "" || domain == hubIndex || domain == hubHost {
		domain = hubDomain
	}
	s := r.Session(ctx, domain, &auth)
	defer s.Close()
	host := s.hosts[len(s.hosts)-1]
	resp, err := s.get(ctx, host, "/v2/")
	if err != nil {
		return registry.AuthResponse{}, fmt.Errorf("logging in to %s: %w", host.Host, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return registry.AuthResponse{Status: "Login Succeeded"}, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return registry.AuthResponse{}, unauthorized(host)
	default:
		return registry.AuthResponse{}, errdefs.ErrUnavailable.WithMessage(
			fmt.Sprintf("logging in to %s: the registry answers %s", host.Host, resp.Status))
	}
}

func unauthorized(h docker.RegistryHost) error {
	return errdefs.ErrUnauthenticated.WithMessage(
		fmt.Sprintf("Get %q: unauthorized: incorrect username or password", h.Scheme+"://"+h.Host+"/v2/"))
}

// get asks one host, and a second time after its challenge.
func (s *Session) get(ctx context.Context, host docker.RegistryHost, path string) (*http.Response, error) {
	var seen []*http.Response
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, host.Scheme+"://"+host.Host+path, nil)
		if err != nil {
			return nil, err
		}
		for k, v := range host.Header {
			req.Header[k] = v
		}
		if host.Authorizer != nil {
			if err := host.Authorizer.Authorize(ctx, req); err != nil {
				return nil, authError(host, err)
			}
		}
		resp, err := host.Client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized || host.Authorizer == nil || len(seen) == 1 {
			return resp, nil
		}
		resp.Body.Close()
		seen = append(seen, resp)
		if err := host.Authorizer.AddResponses(ctx, seen); err != nil {
			return nil, authError(host, err)
		}
	}
}

func authError(h docker.RegistryHost, err error) error {
	if IsDenied(err) {
		return unauthorized(h)
	}
	return err
}

// maxTags bounds the tags that one list may have.
const maxTags = 10000

// Tags lists the tags of a repository, at the first host that knows it.
func (s *Session) Tags(ctx context.Context, name reference.Named) ([]string, error) {
	var errs []error
	for _, host := range s.hosts {
		tags, err := s.tagsAt(ctx, host, reference.Path(name))
		if err == nil {
			return tags, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (s *Session) tagsAt(ctx context.Context, host docker.RegistryHost, path string) ([]string, error) {
	ctx = docker.WithScope(ctx, "repository:"+path+":pull")
	var tags []string
	for next := "/v2/" + path + "/tags/list"; next != ""; {
		page, follow, err := s.tagPage(ctx, host, next)
		if err != nil {
			return nil, err
		}
		if tags = append(tags, page...); len(tags) > maxTags {
			return nil, fmt.Errorf("listing the tags of %s: more than %d: %w", path, maxTags, errdefs.ErrResourceExhausted)
		}
		if follow == next || len(page) == 0 {
			break
		}
		next = follow
	}
	return tags, nil
}

func (s *Session) tagPage(ctx context.Context, host docker.RegistryHost, path string) (tags []string, next string, err error) {
	resp, err := s.get(ctx, host, path)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, "", errdefs.ErrNotFound.WithMessage("name unknown: repository name not known to registry")
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, "", errdefs.ErrPermissionDenied.WithMessage("denied: requested access to the resource is denied")
	default:
		return nil, "", errdefs.ErrUnavailable.WithMessage("the registry answers " + resp.Status)
	}
	var list struct {
		Tags []string `json:"tags"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxManifestSize)).Decode(&list); err != nil {
		return nil, "", fmt.Errorf("reading the list of tags: %w", err)
	}
	return list.Tags, nextPage(resp.Header.Get("Link")), nil
}

// nextPage reads `</v2/name/tags/list?last=x&n=100>; rel="next"`. It stays on the host.
func nextPage(link string) string {
	var target string
	if n, err := fmt.Sscanf(link, "<%s", &target); n != 1 || err != nil {
		return ""
	}
	for i, c := range target {
		if c == '>' {
			target = target[:i]
			break
		}
	}
	u, err := url.Parse(target)
	if err != nil || u.Path == "" || u.Path[0] != '/' {
		return ""
	}
	return u.RequestURI()
}
