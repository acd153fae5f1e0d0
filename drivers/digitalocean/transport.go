package digitalocean

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxTries is how often a GET or a DELETE is made until its answer counts.
	maxTries = 6
	// maxBackoff bounds the pauses between them.
	maxBackoff = 20 * time.Second
	// dialLimit bounds the making of a connection. One that fails is tried again, whatever the request: nothing was sent.
	dialLimit = 10 * time.Second
	// maxAnswer bounds an answer in bytes. A page of 200 droplets has about 400 kB.
	maxAnswer = 16 << 20
)

// transport carries requests to the API: it adds the token, keeps to the limits, and repeats what may be repeated.
type transport struct {
	base    http.RoundTripper
	token   string
	backoff time.Duration
	limit   time.Duration // of one request
	pace    *pace
	log     func(format string, args ...any) // a line for the user; may be nil
	out     io.Writer                        // debug output: methods, URLs and statuses; never a header or a body
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	repeatable := req.Method == http.MethodGet || req.Method == http.MethodDelete
	for try := 1; ; try++ {
		if err := t.pace.wait(req.Context(), t.tell); err != nil {
			return nil, err
		}
		res, err := t.once(req)
		if !repeatable && !notSent(err) || try == maxTries || req.Context().Err() != nil || !passing(res, err) {
			return res, err
		}
		if res != nil {
			res.Body.Close()
		}
		if err := pause(req.Context(), t.delay(try)); err != nil {
			return nil, err
		}
	}
}

// tell says why nothing happens.
func (t *transport) tell(until time.Time) {
	if t.log != nil {
		t.log("DigitalOcean's limit of requests is reached: waiting until %s", until.Format(time.TimeOnly))
	}
}

// once makes the request one time.
func (t *transport) once(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), t.limit)
	again := req.Clone(ctx)
	again.Header.Set("Authorization", "Bearer "+t.token)
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			cancel()
			return nil, err
		}
		again.Body = body
	}
	began := time.Now()
	res, err := t.base.RoundTrip(again)
	if err != nil {
		cancel()
		t.debugf("%s %s: %v", req.Method, req.URL, err)
		return nil, err
	}
	t.pace.learn(res)
	t.debugf("%s %s: %s in %s, %s requests left", req.Method, req.URL, res.Status, time.Since(began).Round(time.Millisecond), res.Header.Get("Ratelimit-Remaining"))
	res.Body = &body{Reader: &bounded{res.Body, maxAnswer}, Closer: res.Body, cancel: cancel}
	return res, nil
}

// passing tells an outcome that another try may change.
func passing(res *http.Response, err error) bool {
	return err != nil || res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500 && res.StatusCode != http.StatusNotImplemented
}

// delay is a random time up to twice as long as before: those who failed together do not come back together.
func (t *transport) delay(try int) time.Duration {
	d := min(t.backoff<<(try-1), maxBackoff)
	return d/2 + rand.N(d/2+1)
}

func (t *transport) debugf(format string, args ...any) {
	if t.out != nil && t.out != io.Discard {
		fmt.Fprintf(t.out, "digitalocean: "+format+"\n", args...)
	}
}

// body is an answer that ends its context when it is closed.
type body struct {
	io.Reader
	io.Closer
	cancel context.CancelFunc
}

func (b *body) Close() error { defer b.cancel(); return b.Closer.Close() }

// bounded errs behind its limit, where an io.LimitedReader would end.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the API's answer is too long")
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// DigitalOcean allows 5000 requests in an hour and 250 in a minute; see "Rate Limit" in the reference of its API. We stay below
// the second by ourselves, and the first is told by each answer: others may be using the account.
const (
	perSecond = 2.0
	burst     = 100
	// scarce is how many requests must be left for us not to go slower.
	scarce = 100
	// maxWait bounds what an answer can make us wait.
	maxWait = 15 * time.Minute
)

// pace keeps the requests of one account below its limits.
type pace struct {
	limiter *rate.Limiter

	mu    sync.Mutex // guards both
	until time.Time  // nothing is sent before
	told  time.Time  // the one of which the user was told
}

func newPace(perSecond float64) *pace {
	return &pace{limiter: rate.NewLimiter(rate.Limit(perSecond), burst)}
}

// longWait is what the user is told of.
const longWait = 5 * time.Second

// wait returns when the next request may be sent. It tells of a long wait, once for all requests that it is for.
func (p *pace) wait(ctx context.Context, tell func(until time.Time)) error {
	if err := p.limiter.Wait(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return context.DeadlineExceeded // it would have to wait longer than ctx lasts
	}
	for {
		p.mu.Lock()
		until := p.until
		left, news := time.Until(until), !until.Equal(p.told)
		p.told = until
		p.mu.Unlock()
		if left <= 0 {
			return nil
		}
		if left > longWait && news {
			tell(until)
		}
		if err := pause(ctx, left); err != nil {
			return err
		}
	}
}

// learn takes from an answer how long to wait with the next request.
func (p *pace) learn(res *http.Response) {
	now := time.Now()
	reset := resetTime(res.Header, now)
	var wait time.Duration
	left, err := strconv.Atoi(res.Header.Get("Ratelimit-Remaining"))
	if err == nil && left < scarce && !reset.IsZero() {
		wait = reset.Sub(now) / time.Duration(max(left, 0)+1)
	}
	if res.StatusCode == http.StatusTooManyRequests {
		wait = retryAfter(res.Header, now, reset)
	}
	if wait <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := now.Add(min(wait, maxWait)); until.After(p.until) {
		p.until = until
	}
}

// resetTime is when requests become available again, in seconds since 1970.
func resetTime(h http.Header, now time.Time) time.Time {
	n, err := strconv.ParseInt(h.Get("Ratelimit-Reset"), 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}
	}
	t := time.Unix(n, 0)
	if t.Before(now) {
		return time.Time{}
	}
	return t
}

// retryAfter is what a 429 asks for: seconds or a date (RFC 9110, 10.2.3), or else the time at which the limit ends.
func retryAfter(h http.Header, now, reset time.Time) time.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.ParseInt(text, 10, 32); err == nil && n >= 0 {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return t.Sub(now)
	}
	if left, err := strconv.Atoi(h.Get("Ratelimit-Remaining")); err == nil && left == 0 && !reset.IsZero() {
		return reset.Sub(now)
	}
	return time.Second // the limit of one minute is sliding: soon there is room again
}
