package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/common"
)

// Backends are the services behind the API; all must be set.
type Backends struct {
	Containers Containers
	Images     Images
	Networks   Networks
	Volumes    Volumes
	System     System
	Events     Events
}

// Options configure a Server.
type Options struct {
	Backends
	Version      string // of the engine, shown in the Server header
	Experimental bool   // shown to clients, nothing else
	Log          *slog.Logger
}

// Server is the Docker Engine API as an HTTP handler. It is to be served over HTTP/1.1 only, since clients take connections
// over.
type Server struct {
	Options
	routes      []compiled
	crossOrigin *http.CrossOriginProtection
}

type compiled struct {
	route
	pattern pattern
}

// New returns a handler for the whole API.
func New(o Options) *Server {
	s := &Server{Options: o, crossOrigin: http.NewCrossOriginProtection()}
	for _, r := range routes() {
		s.routes = append(s.routes, compiled{r, compile(r.path)})
	}
	return s
}

// ServeHTTP answers one request. A panic of a handler is its own request's failure only.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{Server: s, w: &response{ResponseWriter: w}, r: r, v: newest}
	began := time.Now()
	defer func() {
		if p := recover(); p != nil {
			s.panicked(c, p)
		}
		s.Log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", c.w.status, "took", time.Since(began))
	}()
	if err := s.serve(c); err != nil {
		c.fail(err)
	}
}

func (s *Server) panicked(c *call, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p) // cuts the connection, which tells the client that the answer is not whole
	}
	s.Log.Error("panic in a request's handler", "method", c.r.Method, "path", c.r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	if c.w.started {
		panic(http.ErrAbortHandler)
	}
	c.fail(fmt.Errorf("internal error: %v", p))
}

func (s *Server) serve(c *call) error {
	header := c.w.Header()
	header.Set("Server", "berth/"+s.Version+" (linux)")
	header.Set("Api-Version", MaxVersion)
	header.Set("Ostype", "linux")
	header.Set("Docker-Experimental", fmt.Sprint(s.Experimental))
	if err := s.checkOrigin(c.r); err != nil {
		return err
	}
	text, path, versioned := splitVersion(c.r.URL.Path)
	if versioned {
		v, err := parseVersion(text)
		if err != nil {
			return err
		}
		c.v = v
	}
	if c.r.Method == http.MethodOptions {
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	route, err := s.find(c, path)
	if err != nil {
		return err
	}
	if err := c.parseQuery(); err != nil {
		return err
	}
	return route.handle(c)
}

// checkOrigin keeps web pages from using the API of a port without TLS, which a browser on this machine can reach.
func (s *Server) checkOrigin(r *http.Request) error {
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if addr == nil || addr.Network() != "tcp" || r.TLS != nil {
		return nil
	}
	if err := s.crossOrigin.Check(r); err != nil {
		return errdefs.ErrPermissionDenied.WithMessage(err.Error())
	}
	return nil
}

func (s *Server) find(c *call, path string) (route, error) {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for _, r := range s.routes {
		if r.method != c.r.Method {
			continue
		}
		vars, ok := r.pattern.match(segments)
		if !ok {
			continue
		}
		if c.v < r.since {
			return route{}, invalid("%q requires API version %s, but the client asked for %s", r.method+" "+r.path, r.since, c.v)
		}
		c.vars = vars
		return r.route, nil
	}
	return route{}, errdefs.ErrNotFound.WithMessage("page not found")
}

// fail answers with an error, unless the answer has begun or the client has gone.
func (c *call) fail(err error) {
	code := status(err)
	gone := c.r.Context().Err() != nil
	if code >= http.StatusInternalServerError && !gone && code != http.StatusNotImplemented && code != http.StatusServiceUnavailable {
		c.Log.Error("request failed", "method", c.r.Method, "path", c.r.URL.Path, "error", err)
	}
	switch {
	case c.w.hijacked:
		return
	case c.w.started:
		c.Log.Debug("request failed half-way", "path", c.r.URL.Path, "error", err)
		panic(http.ErrAbortHandler)
	case code == http.StatusNotModified:
		c.w.WriteHeader(code)
		return
	}
	var old errTooOld
	if errors.As(err, &old) {
		http.Error(c.w, err.Error(), code)
		return
	}
	_ = c.json(code, common.ErrorResponse{Message: err.Error()})
}
