// Package machine is where the parts that make machines meet: the store, a driver, SSH, provisioning and certificates.
// A Manager does what the commands of berth do; it prints nothing itself but tells a Reporter.
package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/sshutil"
)

// Manager makes, changes and removes the machines of one store. Its methods may be called at the same time.
type Manager struct {
	Store   *hostdb.Store
	Drivers *drivers.Registry
	Report  Reporter
	Debug   io.Writer // never nil
	Now     func() time.Time
	// Program is how the user calls berth; it appears in hints.
	Program string
	// Again is the command line that the user gave, for hints that add to it.
	Again string
	// Owner goes into certificates, e.g. "alice@laptop". It is asked only when one is made.
	Owner func() string
	// TLS says where the authority and the client's pair are, if not in the store.
	TLS TLSFiles
	// EngineBinary finds the berthd to install for an architecture in Go's name ("amd64").
	EngineBinary func(arch string) (string, error)
	// Install puts the engine onto a machine.
	Install Installer
	// Uninstall takes it away again; nil is provisioning's.
	Uninstall func(ctx context.Context, c *sshutil.Client) error
	// DockerConfig is the folder of the docker client's configuration, for contexts.
	DockerConfig string
	// Limits are how long things may take; zero fields mean the defaults.
	Limits Limits
	// Getenv reads the variables that hold secrets; nil knows none.
	Getenv func(string) string

	// EngineSocket is the engine's local socket on machines; empty means config.Socket.
	EngineSocket string
	// Executable is the path of this program, which serves tunnels in the background; see TunnelCommand.
	Executable string

	// HostKeys are where machines have their host keys, to have those replaced that were injected; the zero value leaves them.
	HostKeys HostKeys

	secrets secretSources
}

// Limits are how long Manager waits.
type Limits struct {
	Boot   time.Duration // from power-on to SSH
	Engine time.Duration // from the end of provisioning, or SSH, to the engine's answer
}

// Defaults of Limits: an emulated machine on a busy computer needs minutes.
const (
	bootLimit   = 5 * time.Minute
	engineLimit = 2 * time.Minute
)

func (l Limits) boot() time.Duration {
	if l.Boot > 0 {
		return l.Boot
	}
	return bootLimit
}

func (l Limits) engine() time.Duration {
	if l.Engine > 0 {
		return l.Engine
	}
	return engineLimit
}

// Reporter is told what happens to machines. It is called by many goroutines.
type Reporter interface {
	// Step tells that a step has begun; the function it returns is called once, when the step has ended.
	Step(machine, name string) func(error)
	// Note is a line for the user.
	Note(machine, text string)
}

// load reads a record and its driver. It takes no lock.
func (m *Manager) load(name string) (*hostdb.Machine, drivers.Driver, error) {
	rec, err := m.Record(name)
	if err != nil {
		return nil, nil, err
	}
	d, err := m.Drivers.Get(rec.Driver)
	if err != nil {
		return nil, nil, fmt.Errorf("machine %q: %w", name, err)
	}
	return rec, d, nil
}

// Record reads the record of a machine that exists.
func (m *Manager) Record(name string) (*hostdb.Machine, error) {
	rec, err := m.Store.Get(name)
	if err != nil {
		return nil, m.lookupError(name, err)
	}
	return rec, nil
}

func (m *Manager) lookupError(name string, err error) error {
	if errors.Is(err, hostdb.ErrBroken) {
		return fmt.Errorf("machine %q: %w", name, err)
	}
	if errors.Is(err, hostdb.ErrNotFound) || hostdb.CheckName(name) != nil {
		return &NotExistError{Name: name, Program: m.Program}
	}
	return err
}

// host is the machine as its driver sees it. A nil lock makes one that can only be looked at.
func (m *Manager) host(l *hostdb.Lock, rec *hostdb.Machine) *drivers.Host {
	h := &drivers.Host{
		Name:         rec.Name,
		Dir:          m.Store.MachineDir(rec.Name),
		State:        rec.DriverState,
		EngineConfig: canonical(rec.Engine),
		Out:          m.Debug,
		Log:          func(format string, args ...any) { m.Report.Note(rec.Name, fmt.Sprintf(format, args...)) },
		StoreID:      func() (string, error) { return m.Store.ID(context.Background()) },
		Secret:       m.secret(rec, nil),
	}
	h.Save = func(state json.RawMessage) error {
		if l == nil {
			return errors.New("the machine is not locked: its state cannot change")
		}
		h.State, rec.DriverState = state, state
		return l.Put(rec)
	}
	return h
}

// locked runs do under the machine's lock with the machine's record, driver and host.
func (m *Manager) locked(ctx context.Context, name string, do func(*work) error) error {
	l, err := m.Store.Lock(ctx, name)
	if err != nil {
		return m.lookupError(name, err)
	}
	defer l.Unlock()
	rec, d, err := m.load(name)
	if err != nil {
		return err
	}
	w, err := m.work(l, rec, d)
	if err != nil {
		return err
	}
	return do(w)
}

// work is one machine while this process holds its lock.
type work struct {
	up      bool // it ran before this command
	exposed bool // programs on the machine can read the private half of the host key that was injected

	m      *Manager
	lock   *hostdb.Lock
	rec    *hostdb.Machine
	driver drivers.Driver
	host   *drivers.Host
	// opening is how to let others through the firewall of the machine to its engine; empty when there is no need.
	opening string
	touched bool // provisioning has begun to change the machine
	renew   bool // make certificates anew although the old ones are good
}

func (m *Manager) work(l *hostdb.Lock, rec *hostdb.Machine, d drivers.Driver) (*work, error) {
	w := &work{m: m, lock: l, rec: rec, driver: d, host: m.host(l, rec)}
	keys, err := ensureKeys(l.Dir(), rec.Name)
	if err != nil {
		return nil, err
	}
	w.host.Keys = keys
	return w, nil
}

// step runs one step, timed and reported.
func (w *work) step(name string, do func() error) error {
	end := w.m.Report.Step(w.rec.Name, name)
	err := do()
	end(err)
	return err
}

// put records the phase that now begins.
func (w *work) put(p hostdb.Phase) error {
	w.rec.Phase = p
	return w.lock.Put(w.rec)
}

// fail records why the phase did not end, and returns the error. The record is best effort: it is the error that counts.
func (w *work) fail(err error) error {
	if err == nil {
		return nil
	}
	w.rec.Error = err.Error()
	if perr := w.lock.Put(w.rec); perr != nil {
		return errors.Join(err, perr)
	}
	return err
}

// refreshEndpoint asks the driver where the machine is now, and reports whether that is new.
func (w *work) refreshEndpoint() (changed bool, err error) {
	ep, err := w.driver.Endpoint(w.host)
	if err != nil {
		return false, fmt.Errorf("finding the address of %q: %w", w.rec.Name, err)
	}
	if ep.HostKey == "" && ep.SSHHost != "" {
		ep.HostKey = w.host.Keys.HostPublic
	}
	if w.exposed = ep.HostKeyExposed; w.exposed && len(w.rec.HostKeys) > 0 {
		ep.HostKey = "" // those have replaced it
	}
	old := w.rec.Endpoint
	if old == nil {
		old = &hostdb.Endpoint{}
		w.rec.Endpoint = old
	}
	changed = old.Address != ep.Address || old.SSHOnly != ep.SSHOnly || old.EnginePort != ep.EnginePort || !sameStrings(old.SANs, ep.SANs)
	record(old, ep)
	return changed, nil
}

// record copies what a driver says into the store's form, and leaves alone what a later berth has put there.
func record(to *hostdb.Endpoint, ep drivers.Endpoint) {
	to.Address, to.EnginePort, to.SANs, to.ListenPort = ep.Address, ep.EnginePort, ep.SANs, ep.ListenPort
	to.SSHOnly = ep.SSHOnly
	to.SSHHost, to.SSHPort, to.SSHUser, to.HostKey = ep.SSHHost, ep.SSHPort, ep.SSHUser, ep.HostKey
	to.HostKeys, to.KeyFile, to.UserKeys = ep.HostKeys, ep.KeyFile, ep.UserKeys
	to.Jump = (*hostdb.Jump)(ep.Jump)
}
