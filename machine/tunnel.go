package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/machine/tunnel"
	"github.com/getberth/berth/sshutil"
)

// TunnelCommand is the program's command that calls ServeTunnel, in the background. It takes --storage-path, the store's folder, and a
// machine's name.
const TunnelCommand = "tunnel-server"

func (m *Manager) tunnel(name string) tunnel.Tunnel { return tunnel.For(m.Store.Dir(), name) }

// OpenTunnel sees to it that the local socket of a machine whose engine is reached by SSH only leads there. For others it does
// nothing. It does not ask the machine, so that it is quick and cannot hang.
func (m *Manager) OpenTunnel(ctx context.Context, name string) error {
	rec, err := m.Record(name)
	if err != nil || rec.Endpoint == nil || !rec.Endpoint.SSHOnly {
		return err
	}
	return m.tunnel(name).Ensure(ctx, []string{m.Executable, TunnelCommand, "--storage-path", m.Store.Dir(), name})
}

// ServeTunnel is the other side of OpenTunnel: it runs in the background for as long as there is the machine, and tells by out
// when the socket is there.
func (m *Manager) ServeTunnel(ctx context.Context, name string, out *os.File) error {
	way := &way{m: m, name: name}
	defer way.close()
	return m.tunnel(name).Background(ctx, tunnel.Server{Open: way.open, Wanted: way.wanted}, out)
}

// dialEngine connects to the local socket of a machine's engine by an SSH connection of its own.
func (m *Manager) dialEngine(ctx context.Context, rec *hostdb.Machine) (net.Conn, error) {
	ep, err := m.SSHEndpoint(rec)
	if err != nil {
		return nil, err
	}
	c, err := sshutil.Dial(ctx, ep)
	if err != nil {
		return nil, err
	}
	conn, err := m.engineSocket(ctx, c)
	if err != nil {
		c.Close()
		return nil, err
	}
	return &viaConn{conn, c}, nil
}

// viaConn ends with its SSH connection.
type viaConn struct {
	net.Conn
	via *sshutil.Client
}

func (c *viaConn) Close() error { return errors.Join(c.Conn.Close(), c.via.Close()) }

// engineSocket connects to the engine by an SSH connection. Some servers know no sockets, and a user who is not root may be kept from
// this one, and becomes root then.
func (m *Manager) engineSocket(ctx context.Context, c *sshutil.Client) (net.Conn, error) {
	path := m.EngineSocket
	if path == "" {
		path = config.Socket
	}
	conn, err := c.DialContext(ctx, "unix", path)
	if err == nil || ctx.Err() != nil || c.Err() != nil {
		return conn, err
	}
	if user := c.Endpoint().User; (user == "" || user == "root") && !errors.Is(err, errors.ErrUnsupported) {
		return nil, err
	}
	return c.Stdio(ctx, dialAsRoot)
}

// dialAsRoot passes through any login shell.
const dialAsRoot = `sh -c 'if [ "$(id -u)" -eq 0 ]; then exec ` + config.Binary + ` dial-stdio; elif sudo -n true 2>/dev/null; then exec sudo -n ` + config.Binary + ` dial-stdio; else exec doas -n ` + config.Binary + ` dial-stdio; fi'`

// openLimit is how long one attempt to reach the engine by an SSH connection that there is already may take: the computer may have
// slept, or be in another network.
const openLimit = 5 * time.Second

// way is the SSH connection of a tunnel. It is made when it is needed, shared by all clients, and made anew when it has ended or
// the machine is reached otherwise than before.
type way struct {
	m    *Manager
	name string

	mu     sync.Mutex // guards the rest; held while connecting
	client *sshutil.Client
	to     sshutil.Endpoint
}

// wanted tells whether there is the machine, and its engine reached this way.
func (w *way) wanted() bool {
	rec, err := w.m.Store.Get(w.name)
	if err != nil {
		return !errors.Is(err, hostdb.ErrNotFound)
	}
	return rec.Endpoint != nil && rec.Endpoint.SSHOnly
}

// open opens a stream to the engine.
func (w *way) open(ctx context.Context) (net.Conn, error) {
	conn, err := w.tryOpen(ctx)
	if err == nil || ctx.Err() != nil {
		return conn, err
	}
	return nil, fmt.Errorf("machine %q: %w", w.name, err)
}

func (w *way) tryOpen(ctx context.Context) (net.Conn, error) {
	client, old, err := w.connect(ctx, nil)
	if err != nil {
		return nil, err
	}
	if old {
		attempt, cancel := context.WithTimeout(ctx, openLimit)
		conn, err := w.m.engineSocket(attempt, client)
		timedOut := attempt.Err() != nil
		cancel()
		if err == nil || !timedOut && client.Err() == nil {
			return conn, err
		}
		if client, _, err = w.connect(ctx, client); err != nil {
			return nil, err
		}
	}
	return w.m.engineSocket(ctx, client)
}

// connect is the SSH connection that there is, unless it is the broken one, or a new one; old tells which.
func (w *way) connect(ctx context.Context, broken *sshutil.Client) (client *sshutil.Client, old bool, err error) {
	rec, err := w.m.Record(w.name)
	if err != nil {
		return nil, false, err
	}
	to, err := w.m.SSHEndpoint(rec)
	if err != nil {
		return nil, false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.client != nil && w.client != broken && w.client.Err() == nil && reflect.DeepEqual(w.to, to) {
		return w.client, true, nil
	}
	if w.client != nil {
		w.client.Close()
		w.client = nil
	}
	c, err := sshutil.Dial(ctx, to)
	if err != nil {
		return nil, false, err
	}
	w.client, w.to = c, to
	return c, false, nil
}

func (w *way) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.client != nil {
		w.client.Close()
	}
}
