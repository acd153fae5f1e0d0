package network

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/network/ipam"
)

// lingering bounds how long a namespace may live on without its sandbox, before the link to it is cut: a process of another
// container may be in it.
const lingering = 3 * time.Second

// leaver is the link of a sandbox that was deleted. The kernel removes it together with the namespace, some 10 to 40 ms
// after nobody is in it any more: it does so for many at once, where removing each link by hand blocks every change of the
// host's links for about 15 ms. The address stays taken until then.
type leaver struct {
	network string
	addr    netip.Addr
	gone    chan struct{} // closed when it is
	timer   *time.Timer
}

// leave notes that an endpoint's link is about to go. It needs Service.mu.
func (s *Service) leave(ep *endpointRecord) {
	name := ep.HostLink
	s.leaving[name] = &leaver{
		network: ep.Network, addr: ep.Address.Addr(), gone: make(chan struct{}),
		timer: time.AfterFunc(lingering, func() { s.cut(name) }),
	}
}

// left frees the address of a link that is gone.
func (s *Service) left(link string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.leaving[link]
	if !ok {
		return
	}
	l.timer.Stop()
	delete(s.leaving, link)
	close(l.gone)
	if n := s.networks[l.network]; n != nil && n.pool != nil {
		n.pool.Release(l.addr)
	}
}

// cut removes a link that lingers.
func (s *Service) cut(link string) {
	if err := s.removeLink(link); err != nil {
		s.log.Warn("removing the link of a container that is gone", "link", link, "error", err)
	}
	s.left(link)
}

// checkLeft looks whether links have gone already.
func (s *Service) checkLeft(links ...string) {
	for _, name := range links {
		if _, err := s.link.LinkByName(name); isNoLink(err) {
			s.left(name)
		}
	}
}

// watchLinks learns of links that go, until done is closed.
func (s *Service) watchLinks(done <-chan struct{}) error {
	updates, err := s.subscribe(done)
	if err != nil {
		return err
	}
	go func() {
		for updates != nil {
			for u := range updates {
				if u.Header.Type == unix.RTM_DELLINK {
					s.left(u.Link.Attrs().Name)
				}
			}
			if updates, err = s.resubscribe(done); err != nil {
				s.log.Warn("watching the host's links", "error", err) // addresses are then free after a while
			}
		}
	}()
	return nil
}

func (s *Service) subscribe(done <-chan struct{}) (<-chan netlink.LinkUpdate, error) {
	updates := make(chan netlink.LinkUpdate, 16)
	return updates, netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{})
}

// resubscribe goes on after the kernel had more to tell than the socket could hold, unless done is closed.
func (s *Service) resubscribe(done <-chan struct{}) (<-chan netlink.LinkUpdate, error) {
	select {
	case <-done:
		return nil, nil
	default:
	}
	updates, err := s.subscribe(done)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	links := slices.Collect(maps.Keys(s.leaving))
	s.mu.Unlock()
	s.checkLeft(links...)
	return updates, nil
}

// takeIP gives an endpoint an address: the one asked for, or the one the container had last, or the next. It waits for one
// that is about to be free. It needs Service.mu, which it gives up while it waits.
func (s *Service) takeIP(ctx context.Context, containerID string, n *bridgeNetwork, asked netip.Addr) (netip.Addr, error) {
	for {
		a, err := s.tryIP(containerID, n, asked)
		if err == nil {
			return a, nil
		}
		l := s.leaverOf(n, a)
		if l == nil {
			return a, addressError(err)
		}
		s.mu.Unlock()
		select {
		case <-l.gone:
		case <-ctx.Done():
		}
		s.mu.Lock()
		if ctx.Err() != nil {
			return a, context.Cause(ctx)
		}
		if n.gone {
			return a, errdefs.ErrNotFound.WithMessage("network " + n.rec.Name + " not found")
		}
	}
}

// tryIP returns, with an error, the address to wait for; not valid means any.
func (s *Service) tryIP(containerID string, n *bridgeNetwork, asked netip.Addr) (netip.Addr, error) {
	if asked.IsValid() {
		return asked, n.pool.Reserve(asked)
	}
	if a, ok := s.lastIP.get(n.rec.ID, containerID); ok {
		if n.pool.Reserve(a) == nil {
			return a, nil
		}
		if s.leaverOf(n, a) != nil {
			return a, ipam.ErrInUse
		}
	}
	return n.pool.Next()
}

// leaverOf finds who is about to give back an address of a network; any, if a is not valid. It needs Service.mu.
func (s *Service) leaverOf(n *bridgeNetwork, a netip.Addr) *leaver {
	for _, l := range s.leaving {
		if l.network == n.rec.ID && (!a.IsValid() || l.addr == a) {
			return l
		}
	}
	return nil
}
