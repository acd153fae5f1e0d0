// Package events tells clients what happened in the engine: it keeps the last events and hands new ones to subscribers.
package events

import (
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/getberth/berth/engine/filter"
)

const (
	// kept is how many past events there are; Docker keeps as many.
	kept = 256
	// buffered is how many events a subscriber may be behind before it is dropped. A client that reads takes them in
	// microseconds; at about 1 KB each, a stuck one holds 1 MB.
	buffered = 1024
)

// Service takes events and hands them on. The zero value is not usable; see New.
type Service struct {
	now func() time.Time // the clock; a test's own

	mu   sync.Mutex // guards what follows
	past []events.Message
	subs map[*subscriber]struct{}
	last int64 // timeNano of the newest event
}

type subscriber struct {
	filter filter.Args
	next   chan events.Message
}

// New returns a service without events.
func New() *Service {
	return &Service{now: time.Now, subs: map[*subscriber]struct{}{}}
}

// Publish hands an event on. It never blocks: a subscriber that is too far behind is dropped, its channel closed. Time and
// TimeNano are set when they are not; Scope is "local" unless set.
func (s *Service) Publish(m events.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m = s.stamp(m)
	if len(s.past) == kept {
		s.past = append(s.past[:0], s.past[1:]...)
	}
	s.past = append(s.past, m)
	for sub := range s.subs {
		if Match(sub.filter, m) {
			s.send(sub, m)
		}
	}
}

// stamp completes an event. Its times are strictly rising, so that a client can go on after the last one that it has seen.
func (s *Service) stamp(m events.Message) events.Message {
	if m.TimeNano == 0 {
		m.TimeNano = max(s.now().UnixNano(), s.last+1)
	}
	s.last = max(s.last, m.TimeNano)
	m.Time = m.TimeNano / int64(time.Second)
	if m.Scope == "" {
		m.Scope = "local"
	}
	if m.Actor.Attributes == nil {
		m.Actor.Attributes = map[string]string{}
	}
	return m
}

func (s *Service) send(sub *subscriber, m events.Message) {
	select {
	case sub.next <- m:
	default:
		delete(s.subs, sub)
		close(sub.next)
	}
}

// Subscribe returns the past events that are kept and match, oldest first, and a channel of those to come; no event falls in
// between. The channel is closed by cancel, or when the reader is too slow. cancel may be called more than once.
func (s *Service) Subscribe(f filter.Args) (past []events.Message, next <-chan events.Message, cancel func()) {
	sub := &subscriber{filter: f, next: make(chan events.Message, buffered)}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.past {
		if Match(f, m) {
			past = append(past, m)
		}
	}
	s.subs[sub] = struct{}{}
	return past, sub.next, func() { s.unsubscribe(sub) }
}

func (s *Service) unsubscribe(sub *subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.subs[sub]; ok {
		delete(s.subs, sub)
		close(sub.next)
	}
}

// Subscribers is how many clients listen, as `docker info` shows.
func (s *Service) Subscribers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.subs)
}
