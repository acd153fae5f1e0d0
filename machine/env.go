package machine

import (
	"context"
	"fmt"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
)

// Env is what a Docker client needs to reach a machine's engine.
type Env struct {
	Name     string
	Host     string // DOCKER_HOST: "tcp://127.0.10.1:2376"
	Address  string
	CertPath string // absolute folder of ca.pem, cert.pem and key.pem; empty when Host is a local socket, which has no TLS
}

// Env answers from the store alone: it asks nobody, so that it is quick and never hangs.
func (m *Manager) Env(name string) (Env, error) {
	rec, err := m.Record(name)
	if err != nil {
		return Env{}, err
	}
	return m.envOf(rec)
}

func (m *Manager) envOf(rec *hostdb.Machine) (Env, error) {
	name := rec.Name
	if rec.Endpoint == nil || rec.Endpoint.Address == "" {
		return Env{}, m.noAddress(name)
	}
	e := Env{Name: name, Host: m.URL(rec), Address: rec.Endpoint.Address}
	if !rec.Endpoint.SSHOnly {
		e.CertPath = m.Store.MachineDir(name)
	}
	return e, nil
}

// URL is DOCKER_HOST for a machine, whether it runs or not; it is empty for a machine without an address.
func (m *Manager) URL(rec *hostdb.Machine) string {
	switch {
	case rec.Endpoint == nil || rec.Endpoint.Address == "":
		return ""
	case rec.Endpoint.SSHOnly:
		return m.tunnel(rec.Name).URL()
	}
	return rec.Endpoint.EngineURL()
}

// Reachable is Env of a machine that runs: the error is ErrNotRunning when it does not. When the driver cannot tell, the
// store's answer stands and the second error says why.
func (m *Manager) Reachable(ctx context.Context, name string) (e Env, doubt, err error) {
	if e, err = m.Env(name); err != nil {
		return e, nil, err
	}
	state, err := m.State(ctx, name)
	if err != nil {
		return e, fmt.Errorf("the state of %q: %w", name, err), nil
	}
	if state != drivers.Running {
		return e, nil, m.hint(ErrNotRunning, "Start it: {berth} start %s", name)
	}
	return e, nil, nil
}

// EngineVersion asks the engine of a machine.
func (m *Manager) EngineVersion(ctx context.Context, name string) (string, error) {
	rec, err := m.Record(name)
	if err != nil {
		return "", err
	}
	c, err := m.engine(rec)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, stateLimit)
	defer cancel()
	return c.version(ctx)
}
