package digitalocean

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/digitalocean/godo"
)

// nowhere stands for things that no account has.
const nowhere = "00000000-0000-0000-0000-000000000000"

// probe is a request that tells whether a token has a scope, and changes nothing: it reads, or is about what is not there.
type probe struct{ scope, method, path string }

// probes are for the scopes that a machine needs, as far as a request without effect can tell. Nothing tells whether a token may
// create, but creating: DigitalOcean lists no token's scopes.
func (w *wanted) probes() []probe {
	l := []probe{
		{"droplet:read", http.MethodGet, "v2/droplets?per_page=1"},
		{"droplet:delete", http.MethodDelete, "v2/droplets/0"},
		{"tag:read", http.MethodGet, "v2/tags/berth:" + nowhere},
		{"tag:delete", http.MethodDelete, "v2/tags/berth:" + nowhere},
	}
	if len(w.keys) == 0 {
		l = append(l, probe{"ssh_key:read", http.MethodGet, "v2/account/keys?per_page=1"}, probe{"ssh_key:delete", http.MethodDelete, "v2/account/keys/0"})
	}
	if w.expose != exposeOpen {
		l = append(l, probe{"firewall:read", http.MethodGet, "v2/firewalls?per_page=1"}, probe{"firewall:delete", http.MethodDelete, "v2/firewalls/" + nowhere})
	}
	if len(w.volumes) > 0 {
		l = append(l, probe{"block_storage:read", http.MethodGet, "v2/volumes?per_page=1"})
	}
	if slices.ContainsFunc(w.volumes, func(v volume) bool { return v.GB > 0 }) {
		l = append(l, probe{"block_storage:delete", http.MethodDelete, "v2/volumes/" + nowhere})
	}
	if w.reserved != "" {
		l = append(l, probe{"reserved_ip:read", http.MethodGet, "v2/reserved_ips?per_page=1"})
	}
	return l
}

// checkScopes names all scopes that the token lacks, of those that can be told. So nothing is made that could not be deleted again.
func (a *account) checkScopes(ctx context.Context, w *wanted) error {
	probes := w.probes()
	errs := make([]error, len(probes))
	var all sync.WaitGroup
	for i, p := range probes {
		all.Add(1)
		go func() {
			defer all.Done()
			_, errs[i] = once(ctx, a, "scope "+p.scope, func(ctx context.Context) (struct{}, *godo.Response, error) {
				res, err := a.ask(ctx, p)
				return struct{}{}, res, err
			})
		}()
	}
	all.Wait()
	var lacks []string
	for i, err := range errs {
		if status(err) == http.StatusForbidden {
			lacks = append(lacks, probes[i].scope)
		}
	}
	if len(lacks) > 0 {
		return fmt.Errorf("--%s: the token may not do all that is needed; it lacks a scope: %s", tokenFlag, strings.Join(lacks, ", "))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("seeing what the token may do: %w", explain(err))
	}
	return nil
}

// ask sends a probe. That there is no such thing, or that no such thing can be, is what is expected of one that would delete.
func (a *account) ask(ctx context.Context, p probe) (*godo.Response, error) {
	req, err := a.api.NewRequest(ctx, p.method, p.path, nil)
	if err != nil {
		return nil, err
	}
	res, err := a.api.Do(ctx, req, nil)
	switch status(err) {
	case http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusBadRequest:
		return res, nil
	}
	return res, err
}
