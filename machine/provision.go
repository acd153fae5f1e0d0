package machine

import (
	"context"
	"errors"
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
	Env    []byte   // the engine's environment, K=V lines; empty for none
	CA     []byte   // PEM; client certificates must be signed by it
	SANs   []string // the engine's certificate must be for all of them
	// Sign makes the engine's certificate from the machine's signing request, both PEM.
	Sign func(csr []byte) ([]byte, error)
	// Binary finds the engine for an architecture in Go's name.
	Binary func(arch string) (string, error)
	// Renew asks for a new certificate although the present one is good.
	Renew bool
	Now   func() time.Time
	// RollBack asks to put the engine that a new one replaces back when that does not work; the error is then a RolledBackError.
	RollBack bool
	// Opening, when not nil, is told how to let others through a firewall on the machine that keeps them from the engine.
	Opening func(command string)
	// Plan, when not nil, is told what would be done, and nothing is done. CA may then be empty.
	Plan func(lines []string)
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
		if err := w.changeable(); err != nil {
			return err
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
		return w.notRunning()
	}
	return nil
}

func (w *work) notRunning() error {
	err := fmt.Errorf("machine %q: %w", w.rec.Name, ErrNotRunning)
	if _, stays := w.driver.(drivers.Adopter); stays {
		return w.m.hint(err, "Nobody answers at %s, port %d.", w.rec.Endpoint.SSHHost, w.rec.Endpoint.SSHPort)
	}
	return w.m.hint(err, "Start it: {berth} start %s", w.rec.Name)
}

// changeable refuses a machine that berth cannot log in to. Its creation can still be finished.
func (w *work) changeable() error {
	if w.rec.Phase == hostdb.Ready && w.rec.Endpoint != nil && !hasSSH(w.rec) {
		return fmt.Errorf("machine %q: %w", w.rec.Name, ErrNoSSH)
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

// Upgrade is Provision of a machine that it starts if need be, and tells what came of it. A new engine that does not work makes
// way for the one before it.
func (m *Manager) Upgrade(ctx context.Context, name string) error {
	return m.locked(ctx, name, func(w *work) error {
		if err := w.changeable(); err != nil {
			return err
		}
		state, err := w.usable(ctx)
		if err != nil {
			return err
		}
		if _, stays := w.driver.(drivers.Adopter); stays && state != drivers.Running {
			return w.notRunning()
		}
		if state != drivers.Running {
			if err := w.start(ctx); err != nil {
				return err
			}
		}
		before := w.version(ctx)
		if err := w.fail(w.provision(ctx)); err != nil {
			return err
		}
		after := w.version(ctx)
		if before == after {
			m.Report.Note(name, fmt.Sprintf("The engine of %q has version %s, as before.", name, after))
		} else {
			m.Report.Note(name, fmt.Sprintf("The engine of %q had version %s and has %s now.", name, before, after))
		}
		return nil
	})
}

// version is that of the engine, "unknown" when it does not tell.
func (w *work) version(ctx context.Context) string {
	c, err := w.m.engine(w.rec)
	if err != nil {
		return "unknown"
	}
	ctx, cancel := context.WithTimeout(ctx, stateLimit)
	defer cancel()
	v, err := c.version(ctx)
	if err != nil {
		return "unknown"
	}
	return v
}

// RegenerateCerts makes new certificates for a machine: its client's pair, and the engine's by way of provisioning.
func (m *Manager) RegenerateCerts(ctx context.Context, name string) error {
	return m.locked(ctx, name, func(w *work) error {
		if err := w.changeable(); err != nil {
			return err
		}
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
	worked := w.rec.Phase == hostdb.Ready
	if _, err := w.refreshEndpoint(); err != nil {
		return err
	}
	if err := w.put(hostdb.Provisioning); err != nil {
		return err
	}
	if !hasSSH(w.rec) {
		return w.register(ctx)
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
	err = w.install(ctx, conn, ca, worked)
	var back *RolledBackError
	if err != nil && !errors.As(err, &back) {
		return err
	}
	if err := w.waitEngine(ctx); err != nil {
		return w.cutOff(err)
	}
	if err := w.followName(); err != nil {
		return err
	}
	w.rec.Error, w.rec.RenamedFrom = "", ""
	if perr := w.put(hostdb.Ready); perr != nil {
		return perr
	}
	return err
}

// cutOff explains why an engine that runs, as provisioning has seen, cannot be reached.
func (w *work) cutOff(err error) error {
	port := w.rec.Endpoint.EnginePort
	switch {
	case isCertError(err), w.rec.Endpoint.SSHOnly:
		return err
	case w.opening != "":
		return w.m.hint(err, "A firewall on the machine keeps others from port %d. To open it: {berth} ssh %s, and there as root: %s", port, w.rec.Name, w.opening)
	}
	return w.m.hint(err, "The engine runs on the machine. A firewall in between must let TCP port %d through.", port)
}

func (w *work) install(ctx context.Context, conn *sshutil.Client, ca *certs.CA, worked bool) error {
	conf, err := engineConfig(w.rec)
	if err != nil {
		return err
	}
	env, err := readEngineEnv(w.lock.Dir())
	if err != nil {
		return err
	}
	sans := sansOf(w.rec)
	in := Install{
		Config: conf, Env: env, CA: ca.PEM(), SANs: sans,
		Sign: func(csr []byte) ([]byte, error) {
			return ca.SignServer(csr, certs.ServerOptions{Name: w.rec.Name, SANs: sans}, w.m.Now())
		},
		Binary: w.m.EngineBinary,
		Renew:  w.renew, RollBack: worked, Opening: func(cmd string) { w.opening = cmd },
		Now:  w.m.Now,
		Step: func(name string) func(error) { return w.m.Report.Step(w.rec.Name, name) },
	}
	w.touched = true
	err = w.m.Install(ctx, conn, in)
	var back *RolledBackError
	if err != nil && !errors.As(err, &back) {
		return w.m.advise(err)
	}
	// Only now: until the engine trusts the new CA, the old pair is the one that works.
	return errors.Join(err, w.m.clientPair(w.lock.Dir(), ca, w.renew))
}

// sansOf are all names and addresses under which clients may reach a machine's engine.
func sansOf(rec *hostdb.Machine) []string {
	all := append([]string{rec.Endpoint.Address, rec.Name}, rec.Endpoint.SANs...)
	return append(all, rec.SANs...)
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
