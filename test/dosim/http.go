package dosim

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// object is a JSON object.
type object = map[string]any

// route is an entry of the API's table. Its handler is called with the server's mu held.
type route struct {
	method, path string
	scope        string // what a token needs; "" for any valid one
	status       int    // of a success
	handle       func(s *Server, r *request) (any, error)
}

// request is what a handler sees of a call.
type request struct {
	*http.Request
	body   []byte
	scopes []string // of the token
}

// decode reads the body into v.
func (r *request) decode(v any) error {
	if err := json.Unmarshal(r.body, v); err != nil {
		return &apiError{http.StatusBadRequest, "bad_request", "error parsing request: " + err.Error()}
	}
	return nil
}

// maxBody bounds a request. The greatest that is meant well is a droplet's with 64 KiB of user-data.
const maxBody = 1 << 20

// apiError is an answer other than a success.
type apiError struct {
	status      int
	id, message string
}

func (e *apiError) Error() string { return fmt.Sprintf("%d %s", e.status, e.message) }

func invalid(format string, args ...any) error {
	return &apiError{http.StatusUnprocessableEntity, "unprocessable_entity", fmt.Sprintf(format, args...)}
}

func notFound() error {
	return &apiError{http.StatusNotFound, "not_found", "The resource you requested could not be found."}
}

// handler puts together the API, which wants a token, and the control API, which does not.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range slices.Concat(accountRoutes, dropletRoutes, actionRoutes, imageRoutes, vpcRoutes, firewallRoutes, projectRoutes, reservedIPRoutes, volumeRoutes, tagRoutes) {
		mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) { s.serve(w, req, r) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		s.serve(w, req, route{handle: func(*Server, *request) (any, error) { return nil, notFound() }})
	})
	s.addControl(mux)
	return mux
}

// serve is the way of every call: limits, injected failures, token, scope, the act, and the answer, if it is not to be lost.
func (s *Server) serve(w http.ResponseWriter, req *http.Request, rt route) {
	c := Call{Time: time.Now(), Method: req.Method, Path: req.URL.RequestURI()}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		return // the client has gone, or sends what no client would
	}
	fault := s.fault(req)
	if fault != nil && fault.Delay > 0 && !sleep(req.Context(), time.Duration(fault.Delay)) {
		return
	}
	status, v, err := s.act(w.Header(), &request{Request: req, body: body}, rt, fault)
	if err == nil && req.Method != http.MethodGet {
		err = s.protect()
	}
	if err != nil {
		status, v = errorBody(err, w.Header().Get("X-Request-Id"))
	}
	c.Status, c.Lost, c.Took = status, fault != nil && fault.LoseAnswer, time.Since(c.Time)
	s.record(c)
	if c.Lost {
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}
	answer(w, status, v)
}

func (s *Server) record(c Call) {
	s.mu.Lock()
	s.calls = append(s.calls, c)
	s.mu.Unlock()
	lost := ""
	if c.Lost {
		lost = " (answer lost)"
	}
	s.logf("%s %s: %d%s", c.Method, c.Path, c.Status, lost)
}

func (s *Server) act(h http.Header, r *request, rt route, f *Fault) (int, any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, nil, &apiError{http.StatusServiceUnavailable, "server_error", "the simulator ends"}
	}
	h.Set("X-Request-Id", uuid.NewString())
	h.Set("Content-Type", "application/json; charset=utf-8")
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	scopes, known := s.tokens[token]
	if !ok || !known {
		return 0, nil, &apiError{http.StatusUnauthorized, "unauthorized", "Unable to authenticate you."}
	}
	if err := s.limit(h, token, time.Now()); err != nil {
		return 0, nil, err
	}
	if f != nil && f.Status != 0 {
		return 0, nil, f.answer(h)
	}
	r.scopes = scopes
	if err := s.needs(r, rt.scope); err != nil {
		return 0, nil, err
	}
	v, err := rt.handle(s, r)
	return rt.status, v, err
}

// needs refuses a request whose token lacks a scope. As at DigitalOcean the answer does not say which; the log does.
func (s *Server) needs(r *request, scope string) error {
	if scope == "" || allows(r.scopes, scope) {
		return nil
	}
	s.logf("the token lacks %s", scope)
	return &apiError{http.StatusForbidden, "forbidden", "You are not authorized to perform this operation"}
}

func allows(scopes []string, want string) bool {
	kind, _, _ := strings.Cut(want, ":")
	return slices.Contains(scopes, "*") || slices.Contains(scopes, want) || slices.Contains(scopes, kind+":*")
}

func errorBody(err error, requestID string) (int, any) {
	e, ok := err.(*apiError)
	if !ok {
		e = &apiError{http.StatusInternalServerError, "server_error", err.Error()}
	}
	return e.status, object{"id": e.id, "message": e.message, "request_id": requestID}
}

func answer(w http.ResponseWriter, status int, v any) {
	if v == nil {
		w.Header().Del("Content-Type")
		w.WriteHeader(status)
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"id":"server_error","message":"the answer cannot be encoded"}`)
	}
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// Pages have 20 entries unless asked otherwise, and at most 200.
const (
	defaultPerPage = 20
	maxPerPage     = 200
)

// page answers with the asked page of a list under key, with links to the others and the total.
func page[T any](s *Server, r *request, key string, list []T) (any, error) {
	q := r.URL.Query()
	per, err := positive(q.Get("per_page"), defaultPerPage)
	if err != nil || per > maxPerPage {
		return nil, invalid("per_page must be between 1 and %d", maxPerPage)
	}
	n, err := positive(q.Get("page"), 1)
	if err != nil {
		return nil, invalid("page must be a positive number")
	}
	last := max(1, (len(list)+per-1)/per)
	from := min((n-1)*per, len(list))
	if n > last { // also where the product would overflow
		from = len(list)
	}
	shown := list[from:min(from+per, len(list))]
	if shown == nil {
		shown = []T{}
	}
	link := func(n int) string {
		q.Set("page", strconv.Itoa(n))
		q.Set("per_page", strconv.Itoa(per))
		return s.URL + r.URL.Path + "?" + q.Encode()
	}
	pages := object{}
	if n > 1 {
		pages["first"], pages["prev"] = link(1), link(min(n-1, last))
	}
	if n < last {
		pages["next"], pages["last"] = link(n+1), link(last)
	}
	links := object{}
	if len(pages) > 0 {
		links["pages"] = pages
	}
	return object{key: shown, "links": links, "meta": object{"total": len(list)}}, nil
}

func positive(s string, otherwise int) (int, error) {
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(s)
	if err == nil && n < 1 {
		err = strconv.ErrRange
	}
	return n, err
}
