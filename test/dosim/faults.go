package dosim

import (
	"encoding/json"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that JSON writes as in "1.5s".
type Duration time.Duration

// UnmarshalJSON reads a string as time.ParseDuration does.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	*d = Duration(v)
	return err
}

// MarshalJSON writes what UnmarshalJSON reads.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// Fault is a failure of the next Times requests that match.
type Fault struct {
	Method     string   `json:"method"` // "" for any
	Path       string   `json:"path"`   // pattern as of path.Match, e.g. /v2/droplets/*; "" for any
	Times      int      `json:"times"`  // 1 if zero
	Status     int      `json:"status"` // refuse with this status and do nothing, e.g. 503 or 429
	RetryAfter int      `json:"retry_after"`
	LoseAnswer bool     `json:"lose_answer"` // do what is asked, then close the connection instead of answering
	Delay      Duration `json:"delay"`       // before anything is done
}

// Boot is a trouble of the next Times droplets that are made.
type Boot struct {
	Times int      `json:"times"` // 1 if zero
	Delay Duration `json:"delay"` // added to what a droplet takes to become active
	Never bool     `json:"never"` // stays "new" for ever
}

// Inject adds a fault. Of several that match a request, the first is used up first.
func (s *Server) Inject(f Fault) {
	f.Times = max(1, f.Times)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// InjectBoot adds a trouble of droplets to come.
func (s *Server) InjectBoot(b Boot) {
	b.Times = max(1, b.Times)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boots = append(s.boots, &b)
}

// Vanish removes a droplet behind its owner's back. It says whether there was one.
func (s *Server) Vanish(id int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.droplets[id]
	if d == nil || s.closed {
		return false
	}
	s.remove(d)
	return true
}

// fault takes the first fault that matches a request.
func (s *Server) fault(r *http.Request) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.Method != "" && !strings.EqualFold(f.Method, r.Method) {
			continue
		}
		if ok, _ := path.Match(f.Path, r.URL.Path); !ok && f.Path != "" {
			continue
		}
		f.Times--
		if f.Times == 0 {
			s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
		}
		return f
	}
	return nil
}

// nextBoot takes what is in store for the next droplet.
func (s *Server) nextBoot() Boot {
	if len(s.boots) == 0 {
		return Boot{}
	}
	b := s.boots[0]
	b.Times--
	if b.Times == 0 {
		s.boots = s.boots[1:]
	}
	return *b
}

// answer is the refusal that the fault asks for.
func (f *Fault) answer(h http.Header) error {
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	id := strings.ReplaceAll(strings.ToLower(http.StatusText(f.Status)), " ", "_")
	message := http.StatusText(f.Status)
	switch {
	case f.Status == http.StatusTooManyRequests:
		message = "API rate limit exceeded."
	case f.Status >= 500:
		id, message = "server_error", "Server was unable to give you a response."
	}
	return &apiError{f.Status, id, message}
}
