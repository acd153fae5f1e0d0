package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/getberth/berth/drivers/qemu/lan"
	"github.com/getberth/berth/drivers/qemu/vnet"
	"github.com/getberth/berth/drivers/qemu/vswitch"
)

// retryEvery is how often ports that another program had are tried again, and the clocks of guests are set.
const retryEvery = 30 * time.Second

// hub holds the machines that are attached.
type hub struct {
	dir  string
	log  *slog.Logger
	net  *vnet.Network
	idle time.Duration
	over func() // called once, when no machine has been attached for idle

	wg sync.WaitGroup // machines being served

	mu       sync.Mutex // guards what follows
	machines map[int]*machine
	timer    *time.Timer
	closing  bool
}

// What is known of a machine is in the run folder, for a switch that takes over.
func recordFile(dir string, index int) string { return vswitch.MachineFile(dir, index, "json") }
func portsFile(dir string, index int) string  { return vswitch.MachineFile(dir, index, "ports") }

func newHub(dir string, log *slog.Logger, n *vnet.Network, idle time.Duration, over func()) *hub {
	h := &hub{dir: dir, log: log, net: n, idle: idle, over: over, machines: map[int]*machine{}}
	h.timer = time.AfterFunc(idle, h.whenIdle)
	return h
}

func (h *hub) whenIdle() {
	h.mu.Lock()
	end := len(h.machines) == 0 && !h.closing
	h.closing = h.closing || end
	h.mu.Unlock()
	if end {
		h.log.Info("no machine is left")
		h.over()
	}
}

// quit turns everybody away from now on, and tells whether it is the first to do so, who is to end the switch then. The machines are
// left to the next one.
func (h *hub) quit() (first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	first = !h.closing
	h.closing = true
	return first
}

// ping refuses when the switch is ending, so that nobody counts on it.
func (h *hub) ping() (any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return nil, errEnding
	}
	return vswitch.Pong{Version: vswitch.Version, PID: os.Getpid()}, nil
}

var errEnding = refusal(http.StatusServiceUnavailable, "the virtual switch is ending")

// restore attaches again the machines that an earlier switch has written down, as far as they still run.
func (h *hub) restore(ctx context.Context) {
	paths, _ := filepath.Glob(filepath.Join(h.dir, "*.json"))
	for _, p := range paths {
		var m vswitch.Machine
		b, err := os.ReadFile(p)
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err == nil && recordFile(h.dir, m.Index) != p {
			err = errors.New("its index is not that of its name")
		}
		if err == nil {
			m.Fresh = false
			err = h.attach(ctx, m)
		}
		if err != nil {
			h.log.Warn("not attached again", "record", filepath.Base(p), "err", err)
			os.Remove(p)
		}
	}
}

// attach connects to a machine's QEMU, which must be listening, and opens its ports on the host. Attaching again what is attached
// does nothing.
func (h *hub) attach(ctx context.Context, m vswitch.Machine) error {
	if err := validate(m); err != nil {
		return refusal(http.StatusBadRequest, "%v", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return errEnding
	}
	if old := h.machines[m.Index]; old != nil {
		if !m.Fresh && old.same(m) {
			return nil
		}
		if err := h.replace(old, m); err != nil {
			return err
		}
	}
	x, err := h.open(ctx, m)
	if err != nil {
		return err
	}
	h.machines[m.Index] = x
	h.timer.Stop()
	h.announce()
	h.wg.Go(func() { h.serve(x) })
	h.log.Info("attached", "machine", m.Name, "address", lan.IP(m.Index), "host", m.HostIP)
	return nil
}

// replace makes room for a machine of the same name that was started anew before the end of its QEMU was noticed.
func (h *hub) replace(old *machine, m vswitch.Machine) error {
	if old.Name != m.Name {
		return refusal(http.StatusConflict, "its address %s is in use by machine %q", lan.IP(m.Index), old.Name)
	}
	old.stop()
	h.mu.Unlock()
	<-old.done
	h.mu.Lock()
	return nil
}

// open makes a machine's connections and listeners, or none.
func (h *hub) open(ctx context.Context, m vswitch.Machine) (_ *machine, err error) {
	x := newMachine(h, m)
	defer func() {
		if err != nil {
			x.close()
		}
	}()
	if err := x.listen(); err != nil {
		return nil, refusal(http.StatusConflict, "%v", err)
	}
	if err := x.dial(ctx); err != nil {
		return nil, refusal(http.StatusBadGateway, "connecting to its QEMU: %v", err)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if m.Fresh {
		os.Remove(portsFile(h.dir, m.Index))
	}
	if err := writeFile(recordFile(h.dir, m.Index), b); err != nil {
		return nil, fmt.Errorf("recording it with the virtual switch: %w", err)
	}
	return x, nil
}

// serve runs until the machine's QEMU has ended or it is detached.
func (h *hub) serve(x *machine) {
	x.run()
	h.mu.Lock()
	if h.machines[x.Index] == x {
		delete(h.machines, x.Index)
	}
	if !h.closing { // another switch may take over
		os.Remove(recordFile(h.dir, x.Index))
		os.Remove(portsFile(h.dir, x.Index))
	}
	h.announce()
	if len(h.machines) == 0 {
		h.timer.Reset(h.idle)
	}
	h.mu.Unlock()
	x.close()
	close(x.done)
	h.log.Info("detached", "machine", x.Name)
	h.retry()
}

// announce tells DNS who is here. h.mu is held.
func (h *hub) announce() {
	names := map[string]netip.Addr{}
	for i, m := range h.machines {
		names[m.Name] = lan.IP(i)
	}
	h.net.SetNames(names)
}

// detach ends the service of a machine; one that is not attached is no error.
func (h *hub) detach(index int) {
	if x := h.get(index); x != nil {
		x.stop()
		<-x.done
	}
}

func (h *hub) get(index int) *machine {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.machines[index]
}

// list returns the machines that are attached, in the order of their addresses.
func (h *hub) list() []*machine {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := make([]*machine, 0, len(h.machines))
	for _, m := range h.machines {
		l = append(l, m)
	}
	slices.SortFunc(l, func(a, b *machine) int { return cmp.Compare(a.Index, b.Index) })
	return l
}

// retry opens ports that were taken and may be free now.
func (h *hub) retry() {
	for _, m := range h.list() {
		m.forwards.retry()
	}
}

// tick keeps the guests' clocks right, also after the host has slept, and tries again what could not be opened.
func (h *hub) tick(ctx context.Context) {
	const every = 2 * time.Second
	t := time.NewTicker(every)
	defer t.Stop()
	last, done := time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := time.Now()
		slept := slept(last, now)
		last = now
		if !slept && now.Sub(done) < retryEvery {
			continue
		}
		done = now
		for _, m := range h.list() {
			m.setClock()
		}
		h.retry()
	}
}

// slept tells whether the wall clock went on without the monotonic one, as it does while a computer sleeps, or was set.
func slept(from, to time.Time) bool {
	wall := to.Round(0).Sub(from.Round(0))
	return (wall - to.Sub(from)).Abs() > time.Second
}

// close lets all machines go, leaving their records for the next switch.
func (h *hub) close() {
	h.mu.Lock()
	h.closing = true
	h.timer.Stop()
	h.mu.Unlock()
	for _, m := range h.list() {
		m.stop()
	}
	h.wg.Wait()
}
