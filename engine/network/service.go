package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/engine/network/firewall"
	"github.com/getberth/berth/engine/network/ipam"
)

// Events takes what happened; it never blocks.
type Events interface {
	Publish(events.Message)
}

// Config says how to run networks. The zero value of a field is Docker's default.
type Config struct {
	Root     string // the engine's data root; networks are kept in Root/networks
	ExecRoot string // runtime state, gone after a reboot: ExecRoot/netns and ExecRoot/network

	Bridge string // interface of the default network: docker0, another one that exists, or "none" for no default network
	BIP    string // address of the default bridge, e.g. 172.26.0.1/16
	Within string // part of BIP's subnet that containers of the default bridge get addresses of; all of it when empty
	ICC    *bool  // false: containers of the default bridge do not reach each other
	IPMasq *bool  // false: what containers of the default bridge send is not masqueraded
	IP     string // IPv4 address where ports of the default bridge are published that name none
	MTU    int    // of networks that ask for none; 0 means 1500

	// Pools are where networks get their subnets from that ask for none; Docker's own when empty.
	Pools []ipam.Range

	IPTables *bool // false: no NAT, no isolation; ports are published by the proxy alone
	// Relay is the address from which a light VM's host relays connections to its own loopback: they find what containers
	// publish on 127.0.0.1. The zero Addr means none.
	Relay netip.Addr
	// Guard are TCP ports of this host that containers on bridges must not reach, on whatever address, such as the engine's own.
	Guard         []uint16
	UserlandProxy *bool // false: the proxy only reserves ports; none is published on IPv6

	DNS        []netip.Addr // resolvers of containers that name none; empty means the host's
	DNSSearch  []string
	DNSOptions []string

	Events Events       // may be nil
	Log    *slog.Logger // nil discards
	// PortsChanged is called with all published ports each time the set has changed, in order. It must not call the service.
	PortsChanged func([]config.Port)
}

func enabled(b *bool) bool { return b == nil || *b }

// Service runs the networks. It is safe for concurrent use.
//
// Locks are taken in this order: sandbox.mu, network.mu, Service.mu, portSet.mu.
type Service struct {
	cfg   Config
	link  *netlink.Handle // the host's namespace
	log   *slog.Logger
	fw    *firewall.Firewall // nil when not wanted, or not possible
	ports portSet
	done  chan struct{} // closed by Close

	raising  sync.Once
	raiseErr error    // set by raising, as the next three are
	warnings []string // what does not work, e.g. for want of a right

	fwMissing  string      // why fw is nil
	noForward  bool        // the host does not forward packets: ports are left to the proxy
	noLoopback atomic.Bool // a bridge could not be made to route 127/8: what is sent to it is left to the proxy

	raised   atomic.Bool // raising has ended
	sweepDue atomic.Bool // Recover has left it to raising to look for links of an earlier engine

	creating sync.Mutex // held while networks are created, so that no two get one name or subnet

	mu        sync.Mutex // guards all below, and what network and sandbox say it guards
	networks  map[string]*bridgeNetwork
	sandboxes map[string]*sandbox // by container id
	lastIP    recent              // addresses that containers had, to be given again
	leaving   map[string]*leaver  // by the name of the link
}

// Open loads what is known. See Raise for what it does not do yet.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	s := &Service{cfg: cfg, log: cfg.Log, networks: map[string]*bridgeNetwork{}, sandboxes: map[string]*sandbox{}}
	s.leaving, s.done = map[string]*leaver{}, make(chan struct{})
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ports = portSet{changed: cfg.PortsChanged, all: map[*binding]struct{}{}}
	for _, dir := range []string{s.networksDir(), s.sandboxesDir(), s.netnsDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("opening the networks: %w", err)
		}
	}
	link, err := netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening the networks: netlink: %w", err)
	}
	s.link = link
	if enabled(cfg.IPTables) {
		s.fw = firewall.New(cfg.Relay)
	} else {
		s.fwMissing = "it is turned off (iptables: false)"
	}
	if err := s.watchLinks(s.done); err != nil {
		s.warn(ctx, fmt.Errorf("watching the host's links: %w", err)) // addresses are then free after a while
	}
	if err := s.load(ctx); err != nil {
		close(s.done)
		link.Close()
		return nil, fmt.Errorf("opening the networks: %w", err)
	}
	return s, nil
}

func (s *Service) load(ctx context.Context) error {
	if err := s.loadNetworks(ctx); err != nil {
		return err
	}
	if err := s.ensurePredefined(); err != nil {
		return err
	}
	return s.loadSandboxes(ctx)
}

// Raise brings what is known to the kernel: it makes bridges that are missing and replaces the firewall's rules, in one step. That is
// done once, by the first method that needs it; it is apart from Open since its modules and rules take an emulated processor half a
// second, in which clients can be answered. Where a right is missing it goes on with what works; see Warnings. An error
// means that Config.Guard's ports are not guarded: no container is connected then.
func (s *Service) Raise(ctx context.Context) error {
	s.raising.Do(func() { s.raiseErr = s.raise(context.WithoutCancel(ctx)) })
	return s.raiseErr
}

func (s *Service) raise(ctx context.Context) error {
	defer s.raised.Store(true)
	err := enableForwarding()
	s.noForward = err != nil
	s.warn(ctx, err)
	for _, n := range s.networks {
		if n.isBridge() {
			s.warn(ctx, s.ensureBridge(n))
		}
	}
	if s.fw != nil {
		s.raiseFirewall(ctx)
	}
	if s.sweepDue.Load() {
		s.warn(ctx, s.sweep())
	}
	if s.fw == nil && len(s.cfg.Guard) > 0 {
		return errdefs.ErrFailedPrecondition.WithMessage("guarding the engine's ports from containers needs the firewall: " + s.fwMissing)
	}
	return nil
}

// raiseFirewall replaces the firewall's rules. Without one, ports are left to the proxy.
func (s *Service) raiseFirewall(ctx context.Context) {
	err := s.fw.Update(func(r *firewall.Rules) {
		s.fillRules(r)
		for _, p := range s.cfg.Guard {
			r.Guarded[p] = struct{}{}
		}
	})
	if err != nil {
		s.fw, s.fwMissing = nil, err.Error()
		s.warn(ctx, fmt.Errorf("networks are not isolated, and containers reach no other host: %w", err))
		return
	}
	s.warn(ctx, s.checkDroppers())
}

func (s *Service) checkDroppers() error {
	names, err := firewall.Droppers()
	if err != nil || len(names) == 0 {
		return err
	}
	return fmt.Errorf("another firewall drops forwarded packets unless told otherwise (nftables: %s): containers reach other hosts "+
		"only if it accepts what comes from and goes to their bridges", strings.Join(names, ", "))
}

// warn keeps what does not work for Warnings.
func (s *Service) warn(ctx context.Context, err error) {
	if err != nil {
		s.log.WarnContext(ctx, "networks do not work in full", "error", err)
		s.warnings = append(s.warnings, err.Error())
	}
}

// Warnings tells what did not work at the start, e.g. for want of a right.
func (s *Service) Warnings() []string {
	_ = s.Raise(context.Background())
	return s.warnings
}

// Close lets go of names and ports. Containers stay connected.
func (s *Service) Close() error {
	s.raising.Do(func() { s.raiseErr = errdefs.ErrUnavailable.WithMessage("the networks are closed") }) // waits for one under way
	s.mu.Lock()
	all := make([]*sandbox, 0, len(s.sandboxes))
	for _, sb := range s.sandboxes {
		all = append(all, sb)
	}
	s.mu.Unlock()
	var errs []error
	for _, sb := range all {
		sb.mu.Lock()
		errs = append(errs, sb.stopResolver())
		for _, b := range sb.bindings {
			errs = append(errs, b.close())
		}
		sb.bindings = nil
		sb.mu.Unlock()
	}
	s.mu.Lock()
	for _, l := range s.leaving {
		l.timer.Stop()
	}
	s.mu.Unlock()
	close(s.done)
	s.link.Close()
	return errors.Join(errs...)
}

func (s *Service) networksDir() string  { return filepath.Join(s.cfg.Root, "networks") }
func (s *Service) sandboxesDir() string { return filepath.Join(s.cfg.ExecRoot, "network") }
func (s *Service) netnsDir() string     { return filepath.Join(s.cfg.ExecRoot, "netns") }
