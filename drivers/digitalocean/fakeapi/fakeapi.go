// Package fakeapi is DigitalOcean's API v2 in memory, as far as the driver needs it, for tests. It is strict: a request with a field
// that the API does not have, without the token, or about something that does not exist is refused as the API would, and what the
// driver should never send is also kept as a problem. Answers can be lost, late or bad; see Fault.
package fakeapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/digitalocean/godo"
)

// Server is one account. Fields are set before it is used.
type Server struct {
	Token string
	// Boot starts a droplet and tells its addresses; nil invents some. Halt ends it, and for good if gone.
	Boot func(d godo.Droplet, userdata string, keys []string) (public, private string, err error)
	Halt func(d godo.Droplet, gone bool)
	// Reserve names the reserved IP that is made for a droplet; nil invents one.
	Reserve func(d godo.Droplet) string
	// Before and After are called for each request that is let in; they may block.
	Before, After func(method, path string)
	// Looks is how often a droplet is seen as new before it is active, or gone after it was deleted.
	Looks int
	// Hour is the limit of requests in an hour, 0 for 5000.
	Hour int
	// ReadOnly refuses whatever changes anything.
	ReadOnly bool
	// Forbid are requests that the token has no scope for, by how "METHOD /path" begins.
	Forbid []string
	// StubbornShutdown makes droplets ignore shutdown.
	StubbornShutdown bool
	// DropletLimit is the account's; 0 is 25.
	DropletLimit int

	mu        sync.Mutex // guards the rest
	next      int
	droplets  map[int]*droplet
	keys      map[int]*godo.Key
	tags      map[string]bool
	firewalls map[string]*godo.Firewall
	volumes   map[string]*godo.Volume
	reserved  map[string]*godo.ReservedIP
	images    []godo.Image
	projects  map[string][]string // resources by project
	actions   map[int]*godo.Action
	faults    map[string][]Fault
	problems  []string
	requests  []Request
}

// Request is one that has come in.
type Request struct {
	At           time.Time
	Method, Path string // with its query
	Status       int    // 0 if there was no answer
}

type droplet struct {
	godo.Droplet
	userdata string
	keys     []string // public keys
	looks    int      // until it is active, or gone
	dying    bool
	from     time.Time // not listed before
}

// Fault is what happens to one request.
type Fault struct {
	Status     int           // the answer; 0 with Lost or Hang
	Message    string        // of the answer
	RetryAfter string        // header
	Done       bool          // the request is done nevertheless
	Lost       bool          // the connection ends without an answer
	Hang       bool          // there is no answer as long as the client waits
	Late       time.Duration // a droplet that is made shows up that much later
}

// Inject adds a fault for the next request whose "METHOD /path" begins so; several wait for their turn.
func (s *Server) Inject(request string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults == nil {
		s.faults = map[string][]Fault{}
	}
	s.faults[request] = append(s.faults[request], faults...)
}

// Problems are what no request should have had.
func (s *Server) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.problems)
}

// Requests are those so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Left lists everything that was made and not deleted, in order: "droplet web1", "key berth-…".
func (s *Server) Left() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var l []string
	for _, d := range s.droplets {
		l = append(l, "droplet "+d.Name)
	}
	for _, k := range s.keys {
		l = append(l, "key "+k.Name)
	}
	for _, f := range s.firewalls {
		l = append(l, "firewall "+f.Name)
	}
	for _, v := range s.volumes {
		l = append(l, "volume "+v.Name)
	}
	for _, r := range s.reserved {
		l = append(l, "reserved "+r.IP)
	}
	for t := range s.tags {
		if strings.HasPrefix(t, "berth:") { // a store's tag stays
			l = append(l, "tag "+t)
		}
	}
	slices.Sort(l)
	return l
}

// Droplets are those that there are, the oldest first.
func (s *Server) Droplets() []godo.Droplet {
	s.mu.Lock()
	defer s.mu.Unlock()
	var l []godo.Droplet
	for _, d := range s.droplets {
		l = append(l, d.Droplet)
	}
	slices.SortFunc(l, func(a, b godo.Droplet) int { return cmp.Compare(a.ID, b.ID) })
	return l
}

// Firewalls are those that there are.
func (s *Server) Firewalls() (l []godo.Firewall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.firewalls {
		l = append(l, *f)
	}
	return l
}

// Userdata is what a droplet was given.
func (s *Server) Userdata(id int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.droplets[id]; d != nil {
		return d.userdata
	}
	return ""
}

// Project are the resources of a project.
func (s *Server) Project(id string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.projects[id])
}

// Vanish deletes a droplet as if somebody had done so elsewhere.
func (s *Server) Vanish(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bury(id)
}

// AddKey, AddVolume and AddReserved put into the account what was there before.
func (s *Server) AddKey(k godo.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.init()
	k.ID = s.id()
	s.keys[k.ID] = &k
}

// AddVolume adds a volume to the region nyc3.
func (s *Server) AddVolume(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.init()
	v := &godo.Volume{ID: s.uuid(), Name: name, SizeGigaBytes: 1, Region: &godo.Region{Slug: "nyc3"}}
	s.volumes[v.ID] = v
	return v.ID
}

// AddReserved adds a reserved IP to the region nyc3.
func (s *Server) AddReserved(ip string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.init()
	s.reserved[ip] = &godo.ReservedIP{IP: ip, Region: &godo.Region{Slug: "nyc3"}}
}

func (s *Server) init() {
	if s.droplets != nil {
		return
	}
	s.next = 1000
	s.droplets, s.keys, s.tags = map[int]*droplet{}, map[int]*godo.Key{}, map[string]bool{}
	s.firewalls, s.volumes, s.reserved = map[string]*godo.Firewall{}, map[string]*godo.Volume{}, map[string]*godo.ReservedIP{}
	s.projects, s.actions = map[string][]string{}, map[int]*godo.Action{}
	s.images = images()
}

func (s *Server) id() int { s.next++; return s.next }

func (s *Server) uuid() string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", s.id()) }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.init()
	n := len(s.requests)
	s.requests = append(s.requests, Request{At: time.Now(), Method: r.Method, Path: r.URL.String()})
	f := s.fault(r.Method + " " + r.URL.Path)
	s.mu.Unlock()
	if s.Before != nil {
		s.Before(r.Method, r.URL.Path)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	a := answer{status: f.Status, body: failure(f.Message)}
	if f.Status == 0 && !f.Lost && !f.Hang || f.Done {
		done := s.handle(r, body, f)
		if f.Status == 0 {
			a = done
		}
	}
	if s.After != nil {
		s.After(r.Method, r.URL.Path)
	}
	if f.Hang {
		<-r.Context().Done()
	}
	if f.Lost || f.Hang {
		panic(http.ErrAbortHandler)
	}
	s.mu.Lock()
	s.requests[n].Status = a.status
	used := 0
	for _, q := range s.requests {
		if time.Since(q.At) < time.Hour {
			used++
		}
	}
	s.mu.Unlock()
	hour := cmp.Or(s.Hour, 5000)
	w.Header().Set("Ratelimit-Limit", strconv.Itoa(hour))
	w.Header().Set("Ratelimit-Remaining", strconv.Itoa(max(0, hour-used)))
	w.Header().Set("Ratelimit-Reset", strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10))
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	w.WriteHeader(a.status)
	if a.body != nil {
		_ = json.NewEncoder(w).Encode(a.body)
	}
}

func (s *Server) fault(request string) Fault {
	for prefix, l := range s.faults {
		if len(l) > 0 && strings.HasPrefix(request, prefix) {
			s.faults[prefix] = l[1:]
			return l[0]
		}
	}
	return Fault{}
}

// answer is a status and what is sent as JSON.
type answer struct {
	status int
	body   any
}

func ok(v any) answer      { return answer{http.StatusOK, v} }
func created(v any) answer { return answer{http.StatusCreated, v} }
func none() answer         { return answer{http.StatusNoContent, nil} }

func failure(message string) any {
	return map[string]string{"id": "error", "message": message, "request_id": "00000000-1111-4222-8333-444444444444"}
}

func notFound() answer {
	return answer{http.StatusNotFound, failure("The resource you requested could not be found.")}
}

func invalid(format string, args ...any) answer {
	return answer{http.StatusUnprocessableEntity, failure(fmt.Sprintf(format, args...))}
}

// problem keeps what no driver should send, and refuses it.
func (s *Server) problem(format string, args ...any) answer {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
	return invalid(format, args...)
}

func (s *Server) handle(r *http.Request, body []byte, f Fault) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+s.Token {
		return answer{http.StatusUnauthorized, failure("Unable to authenticate you")}
	}
	forbidden := slices.ContainsFunc(s.Forbid, func(prefix string) bool { return strings.HasPrefix(r.Method+" "+r.URL.Path, prefix) })
	if forbidden || s.ReadOnly && r.Method != http.MethodGet {
		return answer{http.StatusForbidden, failure("You are not authorized to perform this operation")}
	}
	if strings.Contains(r.URL.String(), s.Token) {
		return s.problem("the token is in the URL %s", r.URL)
	}
	if len(body) > 0 && r.Header.Get("Content-Type") != "application/json" {
		return s.problem("%s %s has a body of type %q", r.Method, r.URL, r.Header.Get("Content-Type"))
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) < 2 || parts[0] != "v2" {
		return notFound()
	}
	for _, route := range s.routes() {
		if args, ok := match(route.pattern, r.Method, parts[1:]); ok {
			return route.do(&call{Server: s, r: r, body: body, args: args, fault: f})
		}
	}
	return s.problem("%s %s is unknown to the fake", r.Method, r.URL.Path)
}

// call is one request that is let in. The server is locked.
type call struct {
	*Server
	r     *http.Request
	body  []byte
	args  []string
	fault Fault
}

type route struct {
	pattern string // "GET droplets *"
	do      func(*call) answer
}

func match(pattern, method string, parts []string) (args []string, ok bool) {
	want := strings.Fields(pattern)
	if want[0] != method || len(want)-1 != len(parts) {
		return nil, false
	}
	for i, p := range want[1:] {
		if p == "*" {
			args = append(args, parts[i])
		} else if p != parts[i] {
			return nil, false
		}
	}
	return args, true
}

// read decodes the body, in which every field must be known.
func (c *call) read(v any) error {
	d := json.NewDecoder(strings.NewReader(string(c.body)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		c.problems = append(c.problems, fmt.Sprintf("%s %s: %v", c.r.Method, c.r.URL, err))
		return err
	}
	return nil
}

// page answers with one page of a list under its name, and the links to the others.
func page[T any](c *call, name string, all []T) answer {
	if all == nil {
		all = []T{}
	}
	q := c.r.URL.Query()
	size, _ := strconv.Atoi(cmp.Or(q.Get("per_page"), "20"))
	n, _ := strconv.Atoi(cmp.Or(q.Get("page"), "1"))
	if size < 1 || size > 200 || n < 1 {
		return c.problem("%s: page %q of %q", c.r.URL, q.Get("page"), q.Get("per_page"))
	}
	from, to := min((n-1)*size, len(all)), min(n*size, len(all))
	links := map[string]any{}
	if to < len(all) {
		at := func(page int) string {
			return fmt.Sprintf("http://%s%s?page=%d&per_page=%d", c.r.Host, c.r.URL.Path, page, size)
		}
		links["pages"] = map[string]string{"next": at(n + 1), "last": at((len(all) + size - 1) / size)}
	}
	return ok(map[string]any{name: all[from:to], "links": links, "meta": map[string]int{"total": len(all)}})
}
