// Package dosim simulates DigitalOcean's API v2 for tests: what berth's driver and godo need of it, with its limits, its errors and,
// on demand, its failures. Droplets exist in memory only, or, with Options.Machines, as machines that boot (package vm).
package dosim

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Options configures a simulator. The zero value is one without machines on a port of its own.
type Options struct {
	Listen       string              // address of the API; "127.0.0.1:0" if empty
	Token        string              // the token that may do everything; random if empty
	Tokens       map[string][]string // tokens that may do what their scopes say, e.g. "droplet:create"
	ActiveAfter  time.Duration       // what a droplet takes from "new" to "active"
	ActionAfter  time.Duration       // what an action takes from "in-progress" to "completed"
	PerHour      int                 // requests of a token in an hour; 5000 if zero, as at DigitalOcean
	PerMinute    int                 // requests of a token in a minute; 250 if zero
	DropletLimit int                 // droplets of the account; 200 if zero
	// Public is where public addresses come from; Machines.Public() if there are machines, else 127.77.0.0/16, so that nothing
	// that is sent to a droplet leaves the host. The first address is the gateway.
	Public   netip.Prefix
	Machines Machines  // what boots the droplets; nil: nothing does
	Log      io.Writer // one line for each request and each event of a machine; nil: none
}

// Call is a request that came in.
type Call struct {
	Time   time.Time     `json:"time"`
	Method string        `json:"method"`
	Path   string        `json:"path"` // with the query
	Status int           `json:"status"`
	Lost   bool          `json:"lost"` // acted upon, but not answered
	Took   time.Duration `json:"took_ns"`
}

// Server is a running simulator.
type Server struct {
	URL   string // e.g. http://127.0.0.1:4711, without a slash at the end
	Token string // may do everything

	opt    Options
	log    io.Writer
	http   *http.Server
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	logMu   sync.Mutex // guards writes to log
	storage Storage    // nil if there is none
	rules   sync.Mutex // serialises what is told to Machines.Protect
	ruled   string     // guarded by rules: what it was told last
	mu      sync.Mutex // guards what follows
	closed  bool       // nothing new is begun
	calls   []Call
	faults  []*Fault
	boots   []*Boot
	limits  map[string]*limiter
	tokens  map[string][]string
	state
}

// Start serves until ctx ends or Close.
func Start(ctx context.Context, o Options) (*Server, error) {
	l, err := net.Listen("tcp", cmp.Or(o.Listen, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("dosim: %w", err)
	}
	s := &Server{URL: "http://" + l.Addr().String(), Token: cmp.Or(o.Token, "dop_v1_"+randomHex(32)), opt: o, log: o.Log}
	if s.log == nil {
		s.log = io.Discard
	}
	s.opt.PerHour = cmp.Or(o.PerHour, 5000)
	s.opt.PerMinute = cmp.Or(o.PerMinute, 250)
	s.opt.DropletLimit = cmp.Or(o.DropletLimit, 200)
	s.limits = map[string]*limiter{}
	s.tokens = map[string][]string{s.Token: {"*"}}
	for t, scopes := range o.Tokens {
		s.tokens[t] = scopes
	}
	public := cmp.Or(o.Public, netip.MustParsePrefix("127.77.0.0/16"))
	if o.Machines != nil {
		public = o.Machines.Public()
		s.storage, _ = o.Machines.(Storage)
	}
	s.state = newState(public)
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.http = &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	s.background(func() { _ = s.http.Serve(l) })
	context.AfterFunc(s.ctx, func() { _ = s.http.Close() })
	return s, nil
}

// Close ends all requests and all that goes on behind them. The machines are their owner's to close.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	err := s.http.Close()
	s.work.Wait()
	return err
}

// Calls returns all requests to the API so far, in the order of their ends.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Call(nil), s.calls...)
}

// AddToken makes a token that may do what the scopes say.
func (s *Server) AddToken(scopes ...string) string {
	t := "dop_v1_" + randomHex(32)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[t] = scopes
	return t
}

// later calls f after d, with mu held, unless the simulator ends before.
func (s *Server) later(d time.Duration, f func()) {
	s.background(func() {
		if !sleep(s.ctx, d) {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		f()
	})
}

// background runs f, and has Close wait for its end. It is called by handlers, which find out first whether the simulator is closed,
// and by what runs in the background itself.
func (s *Server) background(f func()) {
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		f()
	}()
}

// sleep says whether d passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) logf(format string, args ...any) {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	fmt.Fprintf(s.log, format+"\n", args...)
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // cannot fail
	return hex.EncodeToString(b)
}
