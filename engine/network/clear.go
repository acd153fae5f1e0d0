package network

import (
	"context"
	"errors"
)

// Clear removes all that the networks have in the kernel: containers' namespaces and links, bridges and the firewall's rules. The
// documents stay; a service that is opened later makes it all again, but for the containers' part.
func (s *Service) Clear(ctx context.Context) error {
	errs := []error{s.Recover(ctx, nil)}
	s.mu.Lock()
	all := make([]*bridgeNetwork, 0, len(s.networks))
	for _, n := range s.networks {
		all = append(all, n)
	}
	s.mu.Unlock()
	for _, n := range all {
		n.mu.Lock()
		errs = append(errs, s.removeBridge(n))
		n.mu.Unlock()
	}
	if s.fw != nil {
		errs = append(errs, s.fw.Remove())
	}
	return errors.Join(errs...)
}
