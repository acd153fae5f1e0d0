package driverstest

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/getberth/berth/drivers"
)

// machine follows one machine through its life.
func (s *suite) machine(t *testing.T) {
	s.cutAndRemoved(t)
	m := s.newHost(t)
	t.Cleanup(func() {
		if err := s.new().Remove(context.Background(), m.host()); err != nil {
			t.Errorf("clearing away: %v", err)
		}
	})
	s.cancelled(t, m)
	s.createWithCuts(t, m)
	s.created(t, m)
	s.versioned(t, m)
	must(t, "Create again", s.new().Create(t.Context(), m.host(), s.options))
	s.running(t, m)
	if !s.unpowered {
		s.power(t, m)
	}
	s.remove(t, m)
}

// cutAndRemoved kills Create at its first save: what it had saved must be enough to remove all that it had made.
func (s *suite) cutAndRemoved(t *testing.T) {
	m := s.newHost(t)
	m.onSave = func(int) error {
		if s.made != nil && s.made(m.host()) {
			t.Error("Create has made something before its first Save")
		}
		return errCut
	}
	if err := s.new().Create(t.Context(), m.host(), s.options); err == nil {
		t.Error("Create does not report that Save failed")
	}
	m.onSave = nil
	if len(m.saved) == 0 {
		t.Error("Create has not called Save")
	}
	must(t, "Remove of what was cut off", s.new().Remove(t.Context(), m.host()))
	s.wantState(t, m, drivers.NotFound)
	s.wantEmpty(t, m)
}

// versioned: the state has a version, and one of a newer driver is refused rather than misread.
func (s *suite) versioned(t *testing.T, m *record) {
	var state map[string]any
	must(t, "reading the state", json.Unmarshal(m.host().State, &state))
	if v, _ := state["version"].(float64); v < 1 {
		t.Errorf("the state has no version: %v", state["version"])
	}
	state["version"] = 1 << 20
	newer, err := json.Marshal(state)
	must(t, "writing the state", err)
	h := m.host()
	h.State = newer
	if _, err := s.new().Endpoint(h); err == nil || !strings.Contains(err.Error(), "newer berth") {
		t.Errorf("a state of a newer driver: %v", err)
	}
}

// maxCuts bounds the saves of one Create.
const maxCuts = 20

// createWithCuts kills Create at its first save, the next one at its second and so on, until one comes through.
func (s *suite) createWithCuts(t *testing.T, m *record) {
	defer func() { m.onSave = nil }()
	for cut := 1; cut <= maxCuts; cut++ {
		reached, had := false, len(m.saved)
		m.onSave = func(n int) error {
			if reached = n-had >= cut; reached {
				return errCut
			}
			return nil
		}
		err := s.new().Create(t.Context(), m.host(), s.options)
		switch {
		case err == nil && !reached:
			return
		case err == nil:
			t.Fatal("Create does not report that Save failed")
		case !reached:
			t.Fatalf("Create, after %d were cut off: %v", cut-1, err)
		}
		if _, err := s.new().State(t.Context(), m.host()); err != nil {
			t.Errorf("State after Create was cut off at Save %d: %v", cut, err)
		}
	}
	t.Fatalf("Create saves more than %d times", maxCuts)
}

// cancelled: a context that is done ends Create soon, and leaves a machine that Create finishes.
func (s *suite) cancelled(t *testing.T, m *record) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m.onSave = func(int) error { cancel(); return nil }
	err := within(t, "Create", func() error { return s.new().Create(ctx, m.host(), s.options) })
	m.onSave = nil
	if err == nil {
		t.Error("Create succeeds although its context was done")
	}
}

// created: what a fresh machine's record must and must not have.
func (s *suite) created(t *testing.T, m *record) {
	s.running(t, m)
	for _, state := range m.saved {
		text := string(state)
		if strings.Contains(text, m.store) {
			t.Errorf("the state has a path of the store in it: %s", text)
		}
		for _, secret := range append(keyLines(m.keys), s.secrets...) {
			if strings.Contains(text, secret) {
				t.Error("the state has a secret in it")
			}
		}
	}
}

// keyLines are the lines of the private key's PEM that hold the key.
func keyLines(k drivers.Keys) (lines []string) {
	for _, l := range strings.Split(string(k.HostPrivate), "\n") {
		if len(l) > 40 && !strings.HasPrefix(l, "-----") {
			lines = append(lines, l)
		}
	}
	return lines
}

// running: a machine that runs says so and is where its endpoint says.
func (s *suite) running(t *testing.T, m *record) {
	t.Helper()
	s.wantState(t, m, drivers.Running)
	h := m.host()
	e, err := s.new().Endpoint(h)
	must(t, "Endpoint", err)
	if e.Address == "" || e.SSHHost == "" || e.SSHUser == "" || e.SSHPort <= 0 || e.EnginePort <= 0 {
		t.Errorf("the endpoint lacks something: %+v", e)
	}
	if s.reach != nil {
		s.reach(t, e, h)
	}
}

// power: stopping, starting and killing, each also when it has been done already, across a move of the store.
func (s *suite) power(t *testing.T, m *record) {
	must(t, "Start of a running machine", s.new().Start(t.Context(), m.host()))
	s.wantState(t, m, drivers.Running)
	before, err := s.new().Endpoint(m.host())
	must(t, "Endpoint", err)
	must(t, "Stop", s.new().Stop(t.Context(), m.host()))
	s.wantState(t, m, drivers.Stopped)
	must(t, "Stop of a stopped machine", s.new().Stop(t.Context(), m.host()))

	if after, err := s.new().Endpoint(m.host()); err != nil || after.Address != before.Address {
		t.Errorf("a stopped machine's endpoint is %+v, %v; it was %+v", after, err, before)
	}
	must(t, "moving the store", os.Rename(m.store, m.store+"m"))
	m.store += "m"
	s.wantState(t, m, drivers.Stopped)
	if err := within(t, "Start", func() error { return s.new().Start(cancelled(), m.host()) }); err == nil {
		t.Error("Start succeeds although its context was done")
	}
	must(t, "Start, in a store that was moved", s.new().Start(t.Context(), m.host()))
	s.running(t, m)

	k, ok := s.new().(drivers.Killer)
	if !ok {
		return
	}
	must(t, "Kill", k.Kill(t.Context(), m.host()))
	s.wantState(t, m, drivers.Stopped)
	must(t, "Kill of a stopped machine", k.Kill(t.Context(), m.host()))
	if r, ok := s.new().(drivers.Restarter); ok {
		must(t, "Restart of a stopped machine", r.Restart(t.Context(), m.host()))
	} else {
		must(t, "Start after Kill", s.new().Start(t.Context(), m.host()))
	}
	s.running(t, m)
}

// remove: a machine that runs is removed with all that was made, and removing it again is no error.
func (s *suite) remove(t *testing.T, m *record) {
	if d, ok := s.new().(drivers.Diagnoser); ok {
		if text, err := d.Diagnose(t.Context(), m.host()); err != nil || text == "" {
			t.Errorf("Diagnose says %q, %v", text, err)
		}
	}
	must(t, "Remove", s.new().Remove(t.Context(), m.host()))
	s.wantState(t, m, drivers.NotFound)
	must(t, "Remove again", s.new().Remove(t.Context(), m.host()))
	s.wantEmpty(t, m)
}

func (s *suite) wantEmpty(t *testing.T, m *record) {
	t.Helper()
	left, err := os.ReadDir(m.dir())
	must(t, "reading the machine's folder", err)
	if len(left) != 0 {
		t.Errorf("Remove has left %v", left)
	}
}
