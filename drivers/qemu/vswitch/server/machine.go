package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/getberth/berth/drivers/qemu/lan"
	"github.com/getberth/berth/drivers/qemu/vswitch"
	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/guest/seed"
)

const (
	// maxEvent bounds a line of the guest's init, in bytes.
	maxEvent = 64 << 10
	// maxPortSet bounds a line of the guest's engine, in bytes: 4096 ports of 50 bytes.
	maxPortSet = 256 << 10
	// sayLimit is how long a guest may take to make room for a line. One that does not listen gets a new connection.
	sayLimit = 2 * time.Second
)

// machine is one that is attached.
type machine struct {
	vswitch.Machine
	hub      *hub
	forwards *forwards
	ctx      context.Context // ends with the machine's service
	stop     context.CancelFunc
	done     chan struct{} // closed when all is put away
	network  net.Conn

	sayMu sync.Mutex // one line at a time
	ctl   net.Conn   // guarded by sayMu; nil while there is none

	mu      sync.Mutex // guards what follows
	status  vswitch.Status
	changed chan struct{} // closed and replaced when status changes
}

// validate refuses what cannot be attached.
func validate(m vswitch.Machine) error {
	switch {
	case m.Name == "":
		return fmt.Errorf("a machine needs a name")
	case !lan.Valid(m.Index):
		return fmt.Errorf("machine %q: its address number %d is not within %d to %d", m.Name, m.Index, lan.First, lan.Last)
	case !m.HostIP.Is4() || !m.HostIP.IsLoopback():
		return fmt.Errorf("machine %q: %s is not an IPv4 loopback address", m.Name, m.HostIP)
	case m.SSHPort == 0 || m.EnginePort == 0:
		return fmt.Errorf("machine %q: it needs ports for SSH and the engine", m.Name)
	case m.Console == "":
		return fmt.Errorf("machine %q: it needs a file for its console", m.Name)
	}
	return nil
}

func newMachine(h *hub, m vswitch.Machine) *machine {
	x := &machine{Machine: m, hub: h, done: make(chan struct{}), changed: make(chan struct{})}
	x.ctx, x.stop = context.WithCancel(context.Background())
	x.forwards = newForwards(x.ctx, h, m)
	return x
}

// same tells whether m describes the machine that x is.
func (x *machine) same(m vswitch.Machine) bool {
	a, b := x.Machine, m
	a.Fresh, b.Fresh = false, false
	return a == b
}

// listen opens the ports without which a machine is of no use.
func (x *machine) listen() error {
	for host, guest := range map[uint16]uint16{x.SSHPort: 22, x.EnginePort: config.EnginePort} {
		if err := x.forwards.must("tcp", host, guest); err != nil {
			return err
		}
	}
	return nil
}

func (x *machine) dial(ctx context.Context) (err error) {
	x.network, err = dialUnix(ctx, vswitch.NetSocket(x.hub.dir, x.Index))
	return err
}

func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
}

// close puts away what open made; it may be called at any time, and again.
func (x *machine) close() {
	x.stop()
	x.forwards.close()
	if x.network != nil {
		x.network.Close()
	}
}

// run serves the machine until its QEMU ends, which its network card tells, or until it is stopped.
func (x *machine) run() {
	var wg sync.WaitGroup
	if !x.Fresh {
		x.recall()
		wg.Go(x.probeSSH)
	}
	wg.Go(func() { x.keep(vswitch.ControlSocket(x.hub.dir, x.Index), x.control) })
	wg.Go(func() { x.keep(vswitch.PortsSocket(x.hub.dir, x.Index), x.ports) })
	wg.Go(func() { x.keep(vswitch.ConsoleSocket(x.hub.dir, x.Index), x.console) })
	if err := x.hub.net.Attach(x.ctx, x.network, x.Index); err != nil {
		x.hub.log.Warn("network card", "machine", x.Name, "err", err)
	}
	x.stop()
	wg.Wait()
}

// keep serves one of QEMU's sockets, connecting again when the connection has ended and QEMU has not.
func (x *machine) keep(path string, serve func(net.Conn) error) {
	again := rate.NewLimiter(rate.Every(time.Second), 2)
	for again.Wait(x.ctx) == nil {
		conn, err := dialUnix(x.ctx, path)
		if err == nil {
			stop := context.AfterFunc(x.ctx, func() { conn.Close() })
			err = serve(conn)
			stop()
			conn.Close()
		}
		if x.ctx.Err() == nil && err != nil {
			x.hub.log.Warn("channel", "machine", x.Name, "socket", path, "err", err)
		}
	}
}

// control hears the events of the guest's init, and keeps the way to it open for commands.
func (x *machine) control(conn net.Conn) error {
	x.sayMu.Lock()
	x.ctl = conn
	x.sayMu.Unlock()
	if !x.Fresh {
		x.setClock()
	}
	defer func() {
		x.sayMu.Lock()
		x.ctl = nil
		x.sayMu.Unlock()
	}()
	return eachLine(conn, maxEvent, x.heard)
}

func (x *machine) heard(line []byte) {
	var e seed.Event
	if err := json.Unmarshal(line, &e); err != nil {
		x.hub.log.Warn("not an event", "machine", x.Name, "err", err)
		return
	}
	x.update(func(s *vswitch.Status) {
		s.Spoke = true
		switch e.Event {
		case "ssh":
			s.SSH, s.Failed = true, ""
		case "engine":
			s.Engine = true
		case "failed":
			s.Failed = e.Error
		case "poweroff":
			s.SSH, s.Engine = false, false
		}
	})
	// Not before the guest listens: lines would wait for it and tell an old time.
	x.setClock()
}

// update changes the status and wakes those who wait for it.
func (x *machine) update(f func(*vswitch.Status)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f(&x.status)
	close(x.changed)
	x.changed = make(chan struct{})
}

// look returns the status, and a channel that is closed when it changes.
func (x *machine) look() (vswitch.Status, <-chan struct{}) {
	x.mu.Lock()
	s, c := x.status, x.changed
	x.mu.Unlock()
	s.Machine = x.Machine
	s.Forwards = x.forwards.list()
	return s, c
}

// wait returns once SSH answers in the machine.
func (x *machine) wait(ctx context.Context) error {
	return x.waitFor(ctx, func(s vswitch.Status) bool { return s.SSH })
}

// waitSpoke returns once the guest has given any sign of life.
func (x *machine) waitSpoke(ctx context.Context) error {
	return x.waitFor(ctx, func(s vswitch.Status) bool { return s.Spoke || s.SSH })
}

// waitFor returns once good is. It fails when the guest says that it has failed, when QEMU ends and when ctx is done.
func (x *machine) waitFor(ctx context.Context, good func(vswitch.Status) bool) error {
	for {
		s, changed := x.look()
		switch {
		case good(s):
			return nil
		case s.Failed != "":
			return refusal(http.StatusFailedDependency, "%s", s.Failed)
		}
		select {
		case <-changed:
		case <-x.done:
			return refusal(http.StatusGone, "QEMU has ended")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// setClock tells the guest the time, if it has listened before.
func (x *machine) setClock() {
	if s, _ := x.look(); s.Spoke || !x.Fresh {
		x.say(seed.Command{Time: time.Now().UnixNano()})
	}
}

// say sends a command to the guest's init.
func (x *machine) say(c seed.Command) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	x.sayMu.Lock()
	defer x.sayMu.Unlock()
	if x.ctl == nil {
		return fmt.Errorf("machine %q: its control channel is not connected", x.Name)
	}
	x.ctl.SetWriteDeadline(time.Now().Add(sayLimit))
	if _, err := x.ctl.Write(append(b, '\n')); err != nil {
		x.ctl.Close() // a line may have been cut
		return fmt.Errorf("machine %q: its control channel: %w", x.Name, err)
	}
	return nil
}

// ports opens on the host what the guest's containers publish. The guest may not keep the host busy with it.
func (x *machine) ports(conn net.Conn) error {
	often := rate.NewLimiter(rate.Every(50*time.Millisecond), 10)
	return eachLine(conn, maxPortSet, func(line []byte) {
		var set config.PortSet
		if err := json.Unmarshal(line, &set); err != nil {
			x.hub.log.Warn("not a set of ports", "machine", x.Name, "err", err)
			return
		}
		if often.Wait(x.ctx) != nil {
			return
		}
		x.forwards.publish(set.Ports)
		x.hub.retry() // a port given up here may be wanted by another machine
		if err := writeFile(portsFile(x.hub.dir, x.Index), line); err != nil {
			x.hub.log.Warn("recording ports", "machine", x.Name, "err", err)
		}
	})
}

// recall opens the ports that the switch before had open: the guest speaks of them only when they change.
func (x *machine) recall() {
	b, err := os.ReadFile(portsFile(x.hub.dir, x.Index))
	var set config.PortSet
	if err != nil || json.Unmarshal(b, &set) != nil {
		return
	}
	x.forwards.publish(set.Ports)
}

// probeSSH finds out whether SSH answers in a machine that may have said so to an earlier switch.
func (x *machine) probeSSH() {
	again := rate.NewLimiter(rate.Every(time.Second), 1)
	for again.Wait(x.ctx) == nil {
		if s, _ := x.look(); s.SSH {
			return
		}
		if x.bannerComes() {
			x.update(func(s *vswitch.Status) { s.SSH = true })
			return
		}
	}
}

func (x *machine) bannerComes() bool {
	ctx, cancel := context.WithTimeout(x.ctx, 5*time.Second)
	defer cancel()
	c, err := x.forwards.dialTCP(ctx, 22)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	var b [4]byte
	_, err = io.ReadFull(c, b[:])
	return err == nil && string(b[:]) == "SSH-"
}

// console writes what the guest prints to a file of bounded size.
func (x *machine) console(conn net.Conn) error {
	path := x.Machine.Console
	if !filepath.IsAbs(path) {
		path = filepath.Join(x.hub.dir, path)
	}
	f := &boundedFile{path: path, limit: consoleLimit}
	defer f.Close()
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			if s, _ := x.look(); !s.Spoke {
				x.update(func(s *vswitch.Status) { s.Spoke = true })
			}
			if _, err := f.Write(buf[:n]); err != nil {
				x.hub.log.Warn("console", "machine", x.Name, "err", err)
			}
		}
		if err != nil {
			return nil
		}
	}
}

// eachLine hands each line to f until the stream ends. A line longer than limit bytes is skipped, as is an empty one.
func eachLine(r io.Reader, limit int, f func([]byte)) error {
	br := bufio.NewReaderSize(r, limit)
	skip := false
	for {
		line, err := br.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			skip = true
		case err != nil:
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		case skip:
			skip = false
		case len(line) > 1:
			f(line)
		}
	}
}
