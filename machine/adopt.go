package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/sshutil"
)

// preview shows what creating the machine changes on a host that exists already, and refuses one on which the engine cannot
// run. It writes nothing, here or there.
func (m *Manager) preview(ctx context.Context, d drivers.Driver, rec *hostdb.Machine, o CreateOptions, options drivers.Options) error {
	a, ok := d.(drivers.Adopter)
	if !ok {
		if o.DryRun {
			m.Report.Note(rec.Name, fmt.Sprintf("The driver %s can make %q. After that berth would install its engine on it, issue certificates and run it.", rec.Driver, rec.Name))
		}
		return nil
	}
	end := m.Report.Step(rec.Name, "Looking at the host")
	err := m.lookAt(ctx, a, rec, o, options)
	end(err)
	if err != nil && ctx.Err() == nil {
		return m.refused(err)
	}
	return err
}

func (m *Manager) lookAt(ctx context.Context, a drivers.Adopter, rec *hostdb.Machine, o CreateOptions, options drivers.Options) error {
	ep, err := a.Preview(ctx, m.host(nil, rec), options)
	if err != nil {
		return err
	}
	there := *rec
	there.Endpoint = &hostdb.Endpoint{}
	record(there.Endpoint, ep)
	conf, err := engineConfig(&there)
	if err != nil {
		return err
	}
	conn, err := sshutil.Dial(ctx, m.sshEndpoint(rec.Name, there.Endpoint))
	if err != nil {
		return err
	}
	defer conn.Close()
	in := Install{
		Config: conf, Env: []byte(o.Engine.env()), SANs: sansOf(&there), Binary: m.EngineBinary, Now: m.Now,
		Step: func(string) func(error) { return func(error) {} },
		Plan: func(lines []string) {
			m.Report.Note(rec.Name, fmt.Sprintf("Plan for %s:\n  %s", ep.Address, strings.Join(lines, "\n  ")))
		},
	}
	if ca, err := readCA(m.tlsFiles()); err == nil {
		in.CA = ca.PEM()
	}
	return m.Install(ctx, conn, in)
}

// refused is a create that ends before anything is written; the driver's advice becomes a hint.
func (m *Manager) refused(err error) error { return m.advise(&CheckError{Err: err}) }

// advise turns a driver's advice into a hint.
func (m *Manager) advise(err error) error {
	var adv *drivers.AdvisedError
	if !errors.As(err, &adv) {
		return err
	}
	return m.hint(err, "%s", strings.ReplaceAll(adv.Advice, "{again}", m.Again))
}

// engineConfig is the configuration that a machine's engine is to have: the recorded one, listening where the machine says.
func engineConfig(rec *hostdb.Machine) (config.Config, error) {
	if rec.Engine == nil {
		return listenAt(config.Default(), rec.Endpoint), nil
	}
	conf, _, err := config.Parse(rec.Engine)
	if err != nil {
		return conf, fmt.Errorf("the engine's configuration: %w", err)
	}
	return listenAt(conf, rec.Endpoint), nil
}

// listenAt has the engine listen on another port than the usual one, by IPv6, or on no port, where the endpoint needs it.
func listenAt(c config.Config, ep *hostdb.Endpoint) config.Config {
	if ep == nil {
		return c
	}
	port, all := config.EnginePort, "0.0.0.0"
	if ep.ListenPort != 0 {
		port = ep.ListenPort
	}
	if ip := net.ParseIP(ep.Address); ip != nil && ip.To4() == nil {
		all = "[::]"
	}
	usual := fmt.Sprintf("tcp://0.0.0.0:%d", config.EnginePort)
	var hosts []string
	for _, h := range c.Hosts {
		switch {
		case h != usual:
			hosts = append(hosts, h)
		case !ep.SSHOnly:
			hosts = append(hosts, fmt.Sprintf("tcp://%s:%d", all, port))
		}
	}
	c.Hosts = hosts
	return c
}

// pairLimit bounds the question to an engine that berth has not installed, in a create that does not depend on the answer.
const pairLimit = 5 * time.Second

// register finishes the creation of a machine of which only the engine's URL is known: it puts the client's certificates in place.
func (w *work) register(ctx context.Context) error {
	err := w.step("Preparing certificates", func() error { return w.m.givenPair(ctx, w.lock.Dir()) })
	if err != nil {
		return err
	}
	w.rec.Error = ""
	if err := w.put(hostdb.Ready); err != nil {
		return err
	}
	c, err := w.m.engine(w.rec)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pairLimit)
	defer cancel()
	if v, err := c.version(ctx); err != nil {
		w.m.Report.Note(w.rec.Name, fmt.Sprintf("The engine does not answer: %v. The machine is recorded nonetheless.", err))
	} else {
		w.m.Report.Note(w.rec.Name, "The engine answers; its version is "+v)
	}
	return nil
}
