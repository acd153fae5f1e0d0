// Package provision turns a machine that can be reached into one that runs the engine: a list of named steps, each of which
// looks whether it is done and otherwise does it. A second run changes nothing; a run that was cut off is finished by the next.
//
// The machine needs a POSIX shell, the usual small tools (busybox's will do) and root, or sudo or doas without a password. It
// needs no sftp, no package manager and no internet. Round trips are few, since each costs 50 ms and more on an emulated
// processor: one script gathers all facts, and what is fine already costs nothing further.
package provision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/getberth/berth/engine/config"
)

// Host is a machine, as the steps need it.
type Host interface {
	// Run runs a command line through the login shell, as ssh does. When the command ran and failed, the error, or one it
	// wraps, has a method ExitStatus() int.
	Run(ctx context.Context, cmd string, stdin io.Reader, stdout, stderr io.Writer) error
}

// Dialer is a Host through which connections can be made from the machine, e.g. to its unix sockets. Without it, or without
// being root there, or when its errors are errors.ErrUnsupported, since not all SSH servers can, the last step trusts the init
// system rather than ask the engine itself.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Spec is what a machine is to be like.
type Spec struct {
	// Engine finds the engine for a machine's architecture, a GOARCH.
	Engine func(arch string) (Engine, error)
	// Config is the content of config.File.
	Config []byte
	Env    []byte // content of config.EnvFile; empty for none
	TLS    TLS
	// HealthTimeout is how long the engine may take to answer; 0 means a minute.
	HealthTimeout time.Duration
}

// Engine is an engine's binary.
type Engine struct {
	SHA256 string                        // of the binary itself, hex in lower case
	Size   int64                         // of the binary itself, in bytes
	Open   func() (io.ReadCloser, error) // may be called more than once; not called when the machine has it already
}

// TLS is how the engine proves who it is. The server's key is made on the machine and stays there.
type TLS struct {
	CA   []byte   // PEM; the CAs of clients
	SANs []string // names and addresses, put into the signing request for its readers; Sign decides
	// Sign turns a signing request into a certificate, both PEM.
	Sign func(ctx context.Context, csr []byte) (cert []byte, err error)
	// Check tells why the machine's present certificate must be replaced; nil when it can stay.
	Check func(cert []byte) error
}

// State is how far a step is.
type State string

// The states of a step. Each step is Started and then exactly one of the last three.
const (
	Started   State = "started"
	Progress  State = "progress" // of an upload: Done and Total
	Unchanged State = "unchanged"
	Changed   State = "changed"
	Failed    State = "failed"
)

// Event tells an observer about a step.
type Event struct {
	Step        string
	State       State
	Took        time.Duration // with the final states
	Done, Total int64         // bytes, with Progress
	Err         error         // with Failed
}

// Step is one thing that must be true of a machine.
type Step struct {
	Name string
	// Check tells whether it is true already.
	Check func(ctx context.Context) (done bool, err error)
	// Apply makes it true; called when Check said no.
	Apply func(ctx context.Context) error
}

// Result is what Apply found and did.
type Result struct {
	Facts   Facts
	Changed []string // names of the steps that changed something
	// Replaced says that a new engine is in the place of another, which is kept for Rollback.
	Replaced bool
}

// Apply provisions a machine. The observer may be nil; it is called from the goroutine of the call and of its uploads.
func Apply(ctx context.Context, h Host, spec Spec, observe func(Event)) (Result, error) {
	if err := spec.check(); err != nil {
		return Result{}, err
	}
	if observe == nil {
		observe = func(Event) {}
	}
	r := &run{host: h, spec: spec, observe: observe}
	var res Result
	for _, s := range r.steps() {
		had := r.facts.Binary != ""
		changed, err := r.do(ctx, s)
		if changed {
			res.Changed = append(res.Changed, s.Name)
		}
		if err != nil {
			res.Facts = r.facts
			return res, fmt.Errorf("%s: %w", s.Name, err)
		}
		res.Replaced = res.Replaced || changed && s.Name == stepEngine && had
	}
	res.Facts = r.facts
	return res, nil
}

// Planned is a step that is to be done, and what it would change on the machine.
type Planned struct {
	Step    string
	Changes []string
}

// Plan tells which steps Apply would have to do, in order, and changes nothing. The specification's TLS may be empty but for Check.
func Plan(ctx context.Context, h Host, spec Spec) ([]Planned, Facts, error) {
	if spec.Engine == nil || spec.TLS.Check == nil || len(spec.Config) == 0 {
		return nil, Facts{}, errIncomplete
	}
	r := &run{host: h, spec: spec, observe: func(Event) {}, dry: true}
	var todo []Planned
	for _, s := range r.steps() {
		done, err := s.Check(ctx)
		if err != nil {
			return todo, r.facts, fmt.Errorf("%s: %w", s.Name, err)
		}
		if !done {
			todo = append(todo, Planned{s.Name, r.changes(s.Name)})
		}
	}
	return todo, r.facts, nil
}

// changes says what a step would change.
func (r *run) changes(step string) []string {
	switch step {
	case stepEngine:
		what := fmt.Sprintf("%s, %d MB", config.Binary, r.engine.Size>>20)
		if r.facts.Binary == config.Binary {
			what += "; the present one is kept as " + previous
		}
		return []string{what}
	case stepConfig:
		files := []string{config.File}
		if !r.envDone() {
			files = append(files, config.EnvFile)
		}
		return files
	case stepTLS:
		return []string{config.TLSDir + ", with a key that is made there and stays there"}
	case stepService:
		what := []string{"the service berthd, started now and at boot"}
		if f, ok := r.facts.Init.definition(); ok {
			what[0] += ": " + f.path
		}
		listens := config.Socket
		if port := r.port(); port != 0 {
			listens = fmt.Sprintf("port %d and on %s", port, config.Socket)
		}
		return append(what, fmt.Sprintf("the engine listens on %s, and keeps its data in %s", listens, config.DataRoot))
	}
	return nil
}

var errIncomplete = errors.New("provisioning: the specification is incomplete")

func (s Spec) check() error {
	if s.Engine == nil || s.TLS.Sign == nil || s.TLS.Check == nil || len(s.TLS.CA) == 0 || len(s.Config) == 0 {
		return errIncomplete
	}
	return nil
}

// run is one provisioning.
type run struct {
	host    Host
	spec    Spec
	observe func(Event)
	dry     bool // nothing may be changed, nor waited for

	facts  Facts  // kept up to date by the steps that change them
	engine Engine // for this machine; known once the system is
}

// Names of the steps that change something.
const (
	stepEngine  = "installing the engine"
	stepConfig  = "configuring the engine"
	stepTLS     = "issuing certificates"
	stepService = "running the engine"
)

func (r *run) steps() []Step {
	return []Step{
		{Name: "detecting the system", Check: r.detect},
		{Name: stepEngine, Check: r.engineDone, Apply: r.pushEngine},
		{Name: stepConfig, Check: r.configDone, Apply: r.writeConfig},
		{Name: stepTLS, Check: r.tlsDone, Apply: r.issue},
		{Name: stepService, Check: r.serviceDone, Apply: r.startService},
		{Name: "checking the engine", Check: r.healthy},
	}
}

func (r *run) do(ctx context.Context, s Step) (changed bool, err error) {
	start := time.Now()
	r.observe(Event{Step: s.Name, State: Started})
	done, err := s.Check(ctx)
	if err == nil && !done {
		changed = true
		err = s.Apply(ctx)
	}
	e := Event{Step: s.Name, State: Unchanged, Took: time.Since(start), Err: err}
	switch {
	case err != nil:
		e.State = Failed
	case changed:
		e.State = Changed
	}
	r.observe(e)
	return changed, err
}
