package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/sshutil"
)

const (
	// keysPatience is for cloud images, whose sshd may start before the keys are in place.
	keysPatience = time.Minute
	// reloadPatience is for an SSH server that is told of a new host key.
	reloadPatience = 10 * time.Second
	// watchPause lies between two looks at whether a machine that boots still runs.
	watchPause = 2 * time.Second
	// stateLimit is how long a driver may take to tell a machine's state when somebody waits for the answer.
	stateLimit = 10 * time.Second
)

// SSHEndpoint is how to reach the machine over SSH, from the store alone.
func (m *Manager) SSHEndpoint(rec *hostdb.Machine) (sshutil.Endpoint, error) {
	if rec.Endpoint == nil || rec.Endpoint.Address == "" {
		return sshutil.Endpoint{}, m.noAddress(rec.Name)
	}
	if !hasSSH(rec) {
		return sshutil.Endpoint{}, fmt.Errorf("machine %q: %w", rec.Name, ErrNoSSH)
	}
	e := m.sshEndpoint(rec.Name, rec.Endpoint)
	e.HostKeys = append(append([]string(nil), rec.HostKeys...), e.HostKeys...)
	return e, nil
}

// hasSSH tells a machine that one can log in to from one of which only the engine's URL is known.
func hasSSH(rec *hostdb.Machine) bool { return rec.Endpoint != nil && rec.Endpoint.SSHHost != "" }

func (m *Manager) sshEndpoint(name string, ep *hostdb.Endpoint) sshutil.Endpoint {
	keys := []string{m.keyPath(name, ep)}
	if ep.UserKeys {
		home, err := os.UserHomeDir()
		if keys = nil; err == nil {
			keys = sshutil.UserKeys(home)
		}
	}
	e := sshutil.Endpoint{
		Host: ep.SSHHost, Port: ep.SSHPort, User: ep.SSHUser, HostKeys: append([]string(nil), ep.HostKeys...),
		KeyPaths: keys,
		Agent:    ep.UserKeys || ep.KeyFile != "", // it may be what opens a key with a passphrase
	}
	if ep.HostKey != "" {
		e.HostKeys = append(e.HostKeys, ep.HostKey)
	}
	if j := ep.Jump; j != nil {
		e.Jump = &sshutil.Endpoint{Host: j.Host, Port: j.Port, User: j.User, HostKeys: j.HostKeys, KeyPaths: keys, Agent: e.Agent}
	}
	return e
}

// keyPath is the absolute path of the private key for a machine.
func (m *Manager) keyPath(name string, ep *hostdb.Endpoint) string {
	switch {
	case ep == nil || ep.KeyFile == "":
		return filepath.Join(m.Store.MachineDir(name), clientKeyFile)
	case filepath.IsAbs(ep.KeyFile):
		return ep.KeyFile
	}
	return filepath.Join(m.Store.MachineDir(name), ep.KeyFile)
}

// SSHKeyPath is the absolute path of the private key for the machine; empty when the user's own keys are used.
func (m *Manager) SSHKeyPath(rec *hostdb.Machine) string {
	if rec.Endpoint != nil && rec.Endpoint.UserKeys || rec.Endpoint != nil && !hasSSH(rec) {
		return ""
	}
	return m.keyPath(rec.Name, rec.Endpoint)
}

func (m *Manager) noAddress(name string) error {
	return m.hint(fmt.Errorf("machine %q has no address yet: its creation was interrupted", name),
		"To finish it: {berth} provision %s. To remove it: {berth} rm %s", name, name)
}

// Dial opens an SSH connection to a machine. user is empty for the machine's own. When the machine does not answer, the driver
// is asked whether it runs at all.
func (m *Manager) Dial(ctx context.Context, name, user string) (*sshutil.Client, error) {
	rec, err := m.Record(name)
	if err != nil {
		return nil, err
	}
	ep, err := m.SSHEndpoint(rec)
	if err != nil {
		return nil, err
	}
	if user != "" {
		ep.User = user
	}
	c, err := sshutil.Dial(ctx, ep)
	if err == nil || ctx.Err() != nil {
		return c, err
	}
	var unanswered *sshutil.DialError
	if errors.As(err, &unanswered) && unanswered.Kind != sshutil.AuthFailed && unanswered.Kind != sshutil.HostKeyMismatch {
		if state, serr := m.State(ctx, name); serr == nil && state != drivers.Running {
			return nil, m.hint(fmt.Errorf("Error: Cannot run SSH command: Host %q is not running", name), "Start it: {berth} start %s", name) //nolint:staticcheck // docker-machine's words
		}
		if d, derr := m.Drivers.Get(rec.Driver); derr == nil && unanswered.Kind == sshutil.TimedOut {
			if _, guarded := d.(drivers.Greeter); guarded {
				return nil, m.hint(err, "If this computer's address has changed, to be let in again: {berth} provision %s", name)
			}
		}
	}
	return nil, err
}

// State asks the driver what the machine is doing.
func (m *Manager) State(ctx context.Context, name string) (drivers.State, error) {
	rec, d, err := m.load(name)
	if err != nil {
		return drivers.None, err
	}
	ctx, cancel := context.WithTimeout(ctx, stateLimit)
	defer cancel()
	return d.State(ctx, m.host(nil, rec))
}

// errNoSSH is the end of the wait for a machine that is silent.
var errNoSSH = errors.New("no SSH")

// waitSSH connects as soon as the machine lets us in, and gives up when it stops running or its time is over.
func (w *work) waitSSH(ctx context.Context, limit time.Duration) (*sshutil.Client, error) {
	ep, err := w.m.SSHEndpoint(w.rec)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w after %s", errNoSSH, limit))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if _, stays := w.driver.(drivers.Adopter); !stays { // such a driver knows no more than that nobody answers
		go w.watch(ctx, stop)
	}
	c, err := sshutil.WaitReady(ctx, ep, sshutil.Wait{
		HostKey: keysPatience, Auth: keysPatience,
		Report: func(err error) { fmt.Fprintf(w.m.Debug, "%s: %v\n", w.rec.Name, err) },
	})
	if err != nil && ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		return nil, fmt.Errorf("%w: the last attempt: %w", context.Cause(ctx), err)
	}
	return c, err
}

// watch ends the wait for a machine that stopped running.
func (w *work) watch(ctx context.Context, stop context.CancelCauseFunc) {
	for pause(ctx, watchPause) == nil {
		look, cancel := context.WithTimeout(ctx, stateLimit)
		h := w.m.host(nil, w.rec)
		h.Secret = w.host.Secret
		state, err := w.driver.State(look, h)
		cancel()
		if err != nil || ctx.Err() != nil {
			continue // the wait has its own end
		}
		switch state {
		case drivers.Stopped, drivers.Error, drivers.NotFound, drivers.Saved, drivers.Paused:
			stop(fmt.Errorf("the machine does not run any more: its state is %s", state))
			return
		}
	}
}

// diagnose adds what the driver knows about a machine that does not answer.
func (w *work) diagnose(ctx context.Context, err error) error {
	d, ok := w.driver.(drivers.Diagnoser)
	if err == nil || !ok || ctx.Err() != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stateLimit)
	defer cancel()
	why, derr := d.Diagnose(ctx, w.host)
	if derr != nil || why == "" {
		return err
	}
	return fmt.Errorf("%w\n%s", err, why)
}
