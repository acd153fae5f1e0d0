package machine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/sshutil"
)

// How long a machine may be silent until its driver is told, see drivers.Greeter: one that boots, and one that runs.
const (
	bootingPatience = 45 * time.Second
	runningPatience = 10 * time.Second
)

// reach connects, tells the driver from where, and has the machine make a host key of its own if the first one is known to others.
func (w *work) reach(ctx context.Context) (*sshutil.Client, error) {
	var conn *sshutil.Client
	err := w.step("Waiting for SSH", func() (err error) {
		conn, err = w.connect(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := w.greet(ctx, conn); err != nil {
		conn.Close()
		return nil, err
	}
	return w.ownHostKey(ctx, conn), nil
}

// connect waits for SSH. A driver that keeps others out may be keeping us out, too.
func (w *work) connect(ctx context.Context) (*sshutil.Client, error) {
	g, ok := w.driver.(drivers.Greeter)
	if !ok {
		return w.waitSSH(ctx, w.m.Limits.boot())
	}
	patience := bootingPatience
	if w.up {
		patience = runningPatience
	}
	conn, err := w.waitSSH(ctx, min(patience, w.m.Limits.boot()))
	if err == nil || ctx.Err() != nil || !errors.Is(err, errNoSSH) {
		return conn, err
	}
	if err := g.Unreached(ctx, w.host); err != nil {
		w.m.Report.Note(w.rec.Name, fmt.Sprintf("it cannot be seen to it that we are let in: %v", err))
	}
	return w.waitSSH(ctx, w.m.Limits.boot())
}

// admitted sees to it that a driver which keeps others out lets us in, wherever we are now.
func (w *work) admitted(ctx context.Context) error {
	if _, ok := w.driver.(drivers.Greeter); !ok {
		return nil
	}
	return w.step("Waiting for SSH", func() error {
		conn, err := w.connect(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		return w.greet(ctx, conn)
	})
}

// greet tells the driver from which address the machine sees us come.
func (w *work) greet(ctx context.Context, conn *sshutil.Client) error {
	g, ok := w.driver.(drivers.Greeter)
	if !ok {
		return nil
	}
	out, err := conn.Output(ctx, `echo "$SSH_CONNECTION"`)
	if err != nil {
		return fmt.Errorf("asking from where we come: %w", err)
	}
	text, _, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	from, err := netip.ParseAddr(text)
	if err != nil {
		w.m.Report.Note(w.rec.Name, "its SSH server does not tell from which address we come")
		return nil
	}
	return g.Greeted(ctx, w.host, from)
}

// askEngine fills in what the store and the engine know of a machine about whose state its driver cannot tell, such as for want of a
// token.
func (m *Manager) askEngine(ctx context.Context, row Row) Row {
	if row.URL = m.URL(row.Machine); row.URL == "" {
		return row
	}
	c, err := m.engine(row.Machine)
	if err != nil {
		return row
	}
	if v, err := c.version(ctx); err == nil {
		row.State, row.Version = drivers.Running, "v"+v
	}
	return row
}
