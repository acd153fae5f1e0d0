package machine

import (
	"context"
	"fmt"
	"time"

	"github.com/getberth/berth/certs"
	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/sshutil"
)

// Installer installs the engine on a machine over SSH. It is called again after it was interrupted and then does what is left;
// on a machine that has all of it, it changes nothing.
type Installer func(ctx context.Context, c *sshutil.Client, in Install) error

// Install is what an Installer needs to know.
type Install struct {
	Config config.Config
	CA     []byte   // PEM; client certificates must be signed by it
	SANs   []string // the engine's certificate must be for all of them
	// Sign makes the engine's certificate from the machine's signing request, both PEM.
	Sign func(csr []byte) ([]byte, error)
	// Binary finds the engine for an architecture in Go's name.
	Binary func(arch string) (string, error)
	// Renew asks for a new certificate although the present one is good.
	Renew bool
	Now   func() time.Time
	// Step reports a step as Reporter.Step does.
	Step func(name string) func(error)
}

// Provision installs the engine, or what is missing of it, with the newest berthd that this berth has; it also finishes a
// create that was interrupted.
func (m *Manager) Provision(ctx context.Context, name string) error {
	return m.locked(ctx, name, func(w *work) error {
		if w.rec.Phase == hostdb.Creating {
			return w.continueCreate(ctx)
		}
		if err := w.running(ctx); err != nil {
			return err
		}
		return w.fail(w.provision(ctx))
	})
}

// running refuses a machine that does not run.
func (w *work) running(ctx context.Context) error {
	state, err := w.usable(ctx)
	if err != nil {
		return err
	}
	if state != drivers.Running {
		return w.m.hint(fmt.Errorf("machine %q: %w", w.rec.Name, ErrNotRunning), "Start it: {berth} start %s", w.rec.Name)
	}
	w.up = true
	return nil
}

// continueCreate resumes with the options that were recorded.
func (w *work) continueCreate(ctx context.Context) error {
	asked, err := recorded(w.driver, w.rec.DriverOptions)
	if err != nil {
		return fmt.Errorf("machine %q: %w", w.rec.Name, err)
	}
	return w.m.interrupted(w.rec.Name, w.fail(w.finish(ctx, withDefaults(w.driver, asked))))
}

// Upgrade is Provision of a machine that it starts if need be.
func (m *Manager) Upgrade(ctx context.Context, name string) error {
	return m.locked(ctx, name, func(w *work) error {
		state, err := w.usable(ctx)
		if err != nil {
			return err
		}
		if state != drivers.Running {
			return w.start(ctx)
		}
		return w.fail(w.provision(ctx))
	})
}

// RegenerateCerts makes new certificates for a machine: its client's pair, and the engine's by way of provisioning.
func (m *Manager) RegenerateCerts(ctx context.Context, name string) error {
	return m.locked(ctx, name, func(w *work) error {
		if err := w.running(ctx); err != nil {
			return err
		}
		w.renew = true
		return w.fail(w.provision(ctx))
	})
}

// NewAuthority replaces the store's CA and client pair. Machines keep trusting the old ones until they are provisioned; until
// then the copies in their folders go on working.
func (m *Manager) NewAuthority(ctx context.Context) error {
	l, err := m.Store.LockStore(ctx)
	if err != nil {
		return err
	}
	defer l.Unlock()
	_, err = m.newAuthority(m.tlsFiles())
	return err
}

// provision brings a machine that runs to Ready.
func (w *work) provision(ctx context.Context) error {
	if _, err := w.refreshEndpoint(); err != nil {
		return err
	}
	if err := w.put(hostdb.Provisioning); err != nil {
		return err
	}
	ca, err := w.m.authority(ctx)
	if err != nil {
		return err
	}
	conn, err := w.reach(ctx)
	if err != nil {
		return w.diagnose(ctx, err)
	}
	defer conn.Close()
	if err := w.install(ctx, conn, ca); err != nil {
		return err
	}
	if err := w.waitEngine(ctx); err != nil {
		return err
	}
	w.rec.Error = ""
	return w.put(hostdb.Ready)
}

func (w *work) install(ctx context.Context, conn *sshutil.Client, ca *certs.CA) error {
	conf, _, err := config.Parse(w.rec.Engine)
	if err != nil {
		return fmt.Errorf("the engine's configuration: %w", err)
	}
	if w.rec.Engine == nil {
		conf = config.Default()
	}
	sans := w.sans()
	in := Install{
		Config: conf, CA: ca.PEM(), SANs: sans,
		Sign: func(csr []byte) ([]byte, error) {
			return ca.SignServer(csr, certs.ServerOptions{Name: w.rec.Name, SANs: sans}, w.m.Now())
		},
		Binary: w.m.EngineBinary,
		Renew:  w.renew,
		Now:    w.m.Now,
		Step:   func(name string) func(error) { return w.m.Report.Step(w.rec.Name, name) },
	}
	if err := w.m.Install(ctx, conn, in); err != nil {
		return err
	}
	// Only now: until the engine trusts the new CA, the old pair is the one that works.
	return w.m.clientPair(w.lock.Dir(), ca, w.renew)
}

// sans are all names and addresses under which clients may reach the engine.
func (w *work) sans() []string {
	ep := w.rec.Endpoint
	all := append([]string{ep.Address, w.rec.Name}, ep.SANs...)
	return append(all, w.rec.SANs...)
}

// waitEngine waits until the engine answers over TLS.
func (w *work) waitEngine(ctx context.Context) error {
	return w.step("Waiting for the engine", func() error {
		c, err := w.m.engine(w.rec)
		if err != nil {
			return err
		}
		limit := w.m.Limits.engine()
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the engine does not answer after %s", limit))
		defer cancel()
		return c.wait(ctx)
	})
}
