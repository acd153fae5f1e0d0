// Package driverstest is the conformance suite of drivers: what every driver of machines must do, whatever it makes them of.
package driverstest

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crypto/ed25519"

	"golang.org/x/crypto/ssh"

	"github.com/getberth/berth/drivers"
)

// Option adjusts the suite to a driver.
type Option func(*suite)

// With sets the value of one of the driver's flags; the others have their defaults.
func With(flag string, value any) Option {
	return func(s *suite) { s.options[flag] = value }
}

// SecretFlag gives a flag a value that must not be in the driver's state, such as a token: the driver has to ask for it each time
// that it needs it.
func SecretFlag(flag, text string) Option {
	return func(s *suite) {
		s.secrets = append(s.secrets, text)
		if s.given == nil {
			s.given = map[string]string{}
		}
		s.given[flag] = text
	}
}

// Reach is called while the machine runs; it fails the test when the machine cannot be reached as its endpoint says.
func Reach(f func(t *testing.T, e drivers.Endpoint, h *drivers.Host)) Option {
	return func(s *suite) { s.reach = f }
}

// Refuses names options, each changing one flag from what otherwise works, that Check must refuse, by what is wrong with them.
func Refuses(why, flag string, value any) Option {
	return func(s *suite) { s.bad = append(s.bad, bad{why, flag, value}) }
}

// Unpowered says that the driver's machines cannot be turned off and on (a host that exists already): Start and Stop may refuse.
func Unpowered() Option { return func(s *suite) { s.unpowered = true } }

// Unprefixed names a flag that does not carry the driver's name, for docker-machine's sake or because it concerns others, too.
func Unprefixed(flag string) Option { return func(s *suite) { s.unprefixed[flag] = true } }

// Made tells whether anything of a machine exists. It is asked at the first save, before which nothing may.
func Made(f func(h *drivers.Host) bool) Option { return func(s *suite) { s.made = f } }

// Temp names the folder in which the store is made, for drivers to which the length of paths matters.
func Temp(dir string) Option { return func(s *suite) { s.temp = dir } }

type bad struct {
	why, flag string
	value     any
}

type suite struct {
	new       func() drivers.Driver
	options   drivers.Options
	secrets   []string
	given     map[string]string // the secrets by flag
	bad       []bad
	reach     func(*testing.T, drivers.Endpoint, *drivers.Host)
	made      func(*drivers.Host) bool
	unpowered bool
	temp      string

	unprefixed map[string]bool // flags
}

// Run checks a driver. newDriver is called often: each call stands for another process that knows of the earlier ones' machines
// only what they recorded. Machines are in folders machines/NAME of a store that is moved in the course of the test.
//
// The suite boots one machine three times, and begins to make it a few times more.
func Run(t *testing.T, newDriver func() drivers.Driver, options ...Option) {
	s := &suite{new: newDriver, options: drivers.Options{}, temp: t.TempDir(), unprefixed: map[string]bool{}}
	for _, f := range newDriver().Flags() {
		s.options[f.Name] = f.Default
	}
	for _, o := range options {
		o(s)
	}
	t.Run("Flags", s.flags)
	t.Run("Nothing", s.nothing)
	t.Run("Check", s.check)
	t.Run("Machine", s.machine)
}

// flags: names that say whose they are, of a type that can be given on a command line.
func (s *suite) flags(t *testing.T) {
	seen := map[string]bool{}
	var prefix string
	for _, f := range s.new().Flags() {
		p, _, ok := strings.Cut(f.Name, "-")
		if prefix == "" {
			prefix = p
		}
		if s.unprefixed[f.Name] {
			ok, p = true, prefix
		}
		if !ok || p != prefix || f.Name != strings.ToLower(f.Name) {
			t.Errorf("flag %q does not begin with the driver's name, %s-", f.Name, prefix)
		}
		if seen[f.Name] {
			t.Errorf("flag %q is there twice", f.Name)
		}
		seen[f.Name] = true
		if f.Usage == "" {
			t.Errorf("flag %q has no usage", f.Name)
		}
		switch f.Default.(type) {
		case string, int, bool, []string:
		default:
			t.Errorf("flag %q has a default of type %T", f.Name, f.Default)
		}
	}
}

// nothing: what a driver answers about a machine of which nothing has been made.
func (s *suite) nothing(t *testing.T) {
	h := s.newHost(t).host()
	if st, err := s.new().State(t.Context(), h); st != drivers.NotFound || err != nil {
		t.Errorf("State is %q, %v; want %q", st, err, drivers.NotFound)
	}
	if _, err := s.new().Endpoint(h); err == nil {
		t.Error("a machine that was never made has an endpoint")
	}
	if err := s.new().Start(t.Context(), h); err == nil {
		t.Error("a machine that was never made starts")
	}
	if err := s.new().Remove(t.Context(), h); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
}

func (s *suite) check(t *testing.T) {
	m := s.newHost(t)
	if err := s.new().Check(t.Context(), m.host(), s.options); err != nil {
		t.Errorf("Check: %v", err)
	}
	for _, b := range s.bad {
		o := drivers.Options{}
		for k, v := range s.options {
			o[k] = v
		}
		o[b.flag] = b.value
		err := s.new().Check(t.Context(), m.host(), o)
		if err == nil {
			t.Errorf("Check accepts --%s=%v: %s", b.flag, b.value, b.why)
		} else if !strings.Contains(err.Error(), b.flag) {
			t.Errorf("Check of --%s=%v does not name the flag: %v", b.flag, b.value, err)
		}
	}
	if len(m.saved) != 0 {
		t.Error("Check has saved something")
	}
	if left, _ := os.ReadDir(m.dir()); len(left) != 0 {
		t.Errorf("Check has left %v", left)
	}
}

// record is a machine as the store has it: it lasts when a driver does not.
type record struct {
	store   string
	secrets map[string]string
	keys    drivers.Keys
	saved   []json.RawMessage // every state, in order
	onSave  func(n int) error // called with the number of states saved; its error is Save's
}

const machineName = "dt1"

func (s *suite) newHost(t *testing.T) *record {
	t.Helper()
	store, err := os.MkdirTemp(s.temp, "s")
	if err != nil {
		t.Fatal(err)
	}
	m := &record{store: store, keys: newKeys(t), secrets: s.given}
	if err := os.MkdirAll(m.dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	m.keys.ClientKeyPath = filepath.Join(m.dir(), "id")
	t.Cleanup(func() { os.RemoveAll(m.store) })
	return m
}

func (m *record) dir() string { return filepath.Join(m.store, "machines", machineName) }

// host is the machine as a new process would hand it to a driver.
func (m *record) host() *drivers.Host {
	h := &drivers.Host{Name: machineName, Dir: m.dir(), Keys: m.keys, Out: io.Discard, Log: func(string, ...any) {}}
	h.StoreID = func() (string, error) { return "0123456789abcdef", nil }
	h.Secret = func(_ context.Context, flag string) (string, error) {
		if v, ok := m.secrets[flag]; ok {
			return v, nil
		}
		return "", fmt.Errorf("--%s: there is none", flag)
	}
	if n := len(m.saved); n > 0 {
		h.State = bytes.Clone(m.saved[n-1])
	}
	h.Save = func(state json.RawMessage) error {
		m.saved = append(m.saved, bytes.Clone(state))
		if m.onSave != nil {
			return m.onSave(len(m.saved))
		}
		return nil
	}
	return h
}

func newKeys(t *testing.T) drivers.Keys {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		t.Fatal(err)
	}
	p, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p)))
	return drivers.Keys{HostPrivate: pem.EncodeToMemory(block), HostPublic: line, ClientPublic: line}
}

var errCut = errors.New("cut off by the test")

// soon bounds calls that must return soon after their context is done. It is not a measure of speed but keeps a driver that
// ignores its context from holding the test up.
const soon = 30 * time.Second

// within runs f and fails the test when it does not return.
func within(t *testing.T, what string, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(soon):
		t.Fatalf("%s goes on after its context was done", what)
		return nil
	}
}

func (s *suite) wantState(t *testing.T, m *record, want drivers.State) {
	t.Helper()
	if st, err := s.new().State(t.Context(), m.host()); st != want || err != nil {
		t.Errorf("State is %q, %v; want %q", st, err, want)
	}
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
