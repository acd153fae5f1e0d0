package machine

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/machine/dockerctx"
)

// KeepContext makes a docker context for a machine, and has it follow the machine's address and certificates from then on.
func (m *Manager) KeepContext(ctx context.Context, name string) error {
	if rec, err := m.Record(name); err == nil && rec.Context && dockerctx.Exists(m.DockerConfig, name) {
		return nil
	}
	l, err := m.Store.Lock(ctx, name)
	if err != nil {
		return m.lookupError(name, err)
	}
	defer l.Unlock()
	rec, err := m.Record(name)
	if err != nil {
		return err
	}
	if err := m.writeContext(rec); err != nil {
		return err
	}
	rec.Context = true
	return l.Put(rec)
}

// writeContext writes the docker context of a machine as it is now.
func (m *Manager) writeContext(rec *hostdb.Machine) error {
	e, err := m.envOf(rec)
	if err != nil {
		return err
	}
	c := dockerctx.Context{Name: rec.Name, Description: "berth machine " + rec.Name, Host: e.Host}
	for name, data := range map[string]*[]byte{caFile: &c.CA, certFile: &c.Cert, keyFile: &c.Key} {
		if e.CertPath == "" {
			break
		}
		if *data, err = os.ReadFile(filepath.Join(e.CertPath, name)); err != nil {
			return err
		}
	}
	return m.foreignHint(rec.Name, dockerctx.Write(m.DockerConfig, c))
}

func (m *Manager) foreignHint(name string, err error) error {
	if errors.Is(err, dockerctx.ErrForeign) {
		return m.hint(err, "Remove it first: docker context rm %s", name)
	}
	return err
}

// followContext renews the docker context of a machine that has one.
func (w *work) followContext() error {
	if !w.rec.Context {
		return nil
	}
	return w.m.writeContext(w.rec)
}

// checkContext refuses, before anything is made, a docker context that could not be written at the end.
func (m *Manager) checkContext(name string) error {
	return m.foreignHint(name, dockerctx.Check(m.DockerConfig, name))
}

// dropContext removes the docker context of a machine that is gone.
func (m *Manager) dropContext(rec *hostdb.Machine) error {
	if !rec.Context {
		return nil
	}
	return dockerctx.Remove(m.DockerConfig, rec.Name)
}
