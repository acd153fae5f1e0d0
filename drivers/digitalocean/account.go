package digitalocean

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/digitalocean/godo"

	"github.com/getberth/berth/drivers"
)

// tokenFlag is the flag of the token; tokenFlag+"-command" that of the command which prints it.
const tokenFlag = "digitalocean-access-token"

// account is the API as one token sees it, shared by all machines of this process that use it.
type account struct {
	conf Config
	api  *godo.Client

	mu      sync.Mutex // guards the rest
	stores  map[string]*watch
	lists   map[string]*list
	planned map[string]bool // names of machines that this process is to make
}

// accountKey tells accounts apart. It has no token, so that none can be printed by mistake.
type accountKey struct {
	url   string
	token [sha256.Size]byte
}

// account finds the token and the API's client. apiURL may be empty; o has the options of a create, else is nil.
func (d *Driver) account(ctx context.Context, h *drivers.Host, apiURL string, o drivers.Options) (*account, error) {
	base, err := parseURL(apiURL)
	if err != nil {
		return nil, err
	}
	token, err := findToken(ctx, h, o)
	if err != nil {
		return nil, err
	}
	key := accountKey{base, sha256.Sum256([]byte(token))}
	d.mu.Lock()
	defer d.mu.Unlock()
	if a := d.accounts[key]; a != nil {
		return a, nil
	}
	carrier := d.conf.Transport
	if carrier == nil {
		usual := http.DefaultTransport.(*http.Transport).Clone()
		usual.DialContext = (&net.Dialer{Timeout: dialLimit}).DialContext
		carrier = usual
	}
	t := &transport{base: carrier, token: token, backoff: d.conf.Backoff, limit: d.conf.Try, pace: newPace(d.conf.PerSecond), out: h.Out, log: h.Log}
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("the API sends us elsewhere, where the token must not go")
	}}
	api, err := godo.New(client, godo.SetBaseURL(base), godo.SetUserAgent("berth"))
	if err != nil {
		return nil, err
	}
	a := &account{conf: d.conf, api: api, stores: map[string]*watch{}, lists: map[string]*list{}, planned: map[string]bool{}}
	d.accounts[key] = a
	return a, nil
}

// findToken asks for the token where it may be; it is never recorded.
func findToken(ctx context.Context, h *drivers.Host, o drivers.Options) (string, error) {
	token := o.String(tokenFlag)
	if token == "" && h.Secret != nil {
		var err error
		if token, err = h.Secret(ctx, tokenFlag); err != nil {
			return "", err
		}
	}
	token = strings.TrimSpace(token)
	switch {
	case token == "":
		return "", fmt.Errorf("--%s: there is none; set DIGITALOCEAN_ACCESS_TOKEN", tokenFlag)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("--%s: it has a space or another character that no token has", tokenFlag)
	}
	return token, nil
}

// parseURL checks where the API is said to be. The token goes there, so that it must be encrypted unless it stays on this computer.
func parseURL(text string) (string, error) {
	if text == "" {
		return DefaultURL, nil
	}
	bad := func(why string) (string, error) { return "", fmt.Errorf("--digitalocean-api-url %q: %s", text, why) }
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return bad("it is no URL such as " + DefaultURL)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return bad("a user, a query or a fragment has no meaning in it")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return bad("it must be https: the token would cross the network in the clear")
	case u.Scheme != "http" && u.Scheme != "https":
		return bad("it must be https")
	}
	return strings.TrimSuffix(u.String(), "/") + "/", nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// pages reads all of a list that comes in pages, 200 at a time, which is the most there may be in one.
func pages[T any](ctx context.Context, get func(context.Context, *godo.ListOptions) ([]T, *godo.Response, error)) ([]T, error) {
	var all []T
	for page := 1; page <= maxPages; page++ {
		l, res, err := get(ctx, &godo.ListOptions{Page: page, PerPage: pageSize})
		if err != nil {
			return nil, err
		}
		all = append(all, l...)
		if res == nil || res.Links == nil || res.Links.IsLastPage() {
			return all, nil
		}
	}
	return nil, fmt.Errorf("the API lists more than %d things", maxPages*pageSize)
}

const (
	pageSize = 200
	maxPages = 100 // bounds what a confused API may send
)

// list is something that every create asks for and that hardly changes, such as the sizes.
type list struct {
	mu   sync.Mutex // held while it is read
	read time.Time
	all  any
}

// listAge is for how long a list is good enough.
const listAge = time.Minute

// cached reads a list, once for all that want it at about the same time.
func cached[T any](ctx context.Context, a *account, name string, get func(context.Context, *godo.ListOptions) ([]T, *godo.Response, error)) ([]T, error) {
	a.mu.Lock()
	l := a.lists[name]
	if l == nil {
		l = new(list)
		a.lists[name] = l
	}
	a.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if all, ok := l.all.([]T); ok && time.Since(l.read) < listAge {
		return all, nil
	}
	all, err := pages(ctx, get)
	if err != nil {
		return nil, err
	}
	l.read, l.all = time.Now(), all
	return all, nil
}

// pause waits, but not longer than ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// notSent tells an error of which it is certain that the request did not reach the API.
func notSent(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}
