package dosim

import (
	"net/http"
	"strconv"
	"time"
)

// limiter remembers when a token's requests of the last hour came.
type limiter struct{ times []time.Time }

// limit counts a request, tells in the headers what is left, and refuses what is over the limit of the hour or of the minute.
func (s *Server) limit(h http.Header, token string, now time.Time) error {
	l := s.limits[token]
	if l == nil {
		l = &limiter{}
		s.limits[token] = l
	}
	for len(l.times) > 0 && now.Sub(l.times[0]) >= time.Hour {
		l.times = l.times[1:]
	}
	burst := l.since(now.Add(-time.Minute))
	over := len(l.times) >= s.opt.PerHour || len(burst) >= s.opt.PerMinute
	if !over {
		l.times = append(l.times, now)
	}
	reset := l.times[0].Add(time.Hour)
	h.Set("RateLimit-Limit", strconv.Itoa(s.opt.PerHour))
	h.Set("RateLimit-Remaining", strconv.Itoa(s.opt.PerHour-len(l.times)))
	h.Set("RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
	if !over {
		return nil
	}
	wait := reset.Sub(now)
	if len(burst) >= s.opt.PerMinute {
		wait = burst[0].Add(time.Minute).Sub(now)
	}
	h.Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
	return &apiError{http.StatusTooManyRequests, "too_many_requests", "API rate limit exceeded."}
}

func (l *limiter) since(t time.Time) []time.Time {
	i := len(l.times)
	for i > 0 && l.times[i-1].After(t) {
		i--
	}
	return l.times[i:]
}
