package network

import "net/netip"

// maxRecent bounds what recent remembers; it forgets all when full.
const maxRecent = 4096

// recent remembers the address that a container had in a network: one that is started again gets it again, if it is free.
type recent struct {
	addrs  map[[2]string]netip.Addr
	serial uint64
}

func (r *recent) get(networkID, containerID string) (netip.Addr, bool) {
	a, ok := r.addrs[[2]string{networkID, containerID}]
	return a, ok
}

func (r *recent) put(networkID, containerID string, a netip.Addr) {
	if r.addrs == nil || len(r.addrs) >= maxRecent {
		r.addrs = map[[2]string]netip.Addr{}
	}
	r.addrs[[2]string{networkID, containerID}] = a
}

// lastSerial returns the next serial of an endpoint, or learns of one that was given out before. It needs Service.mu.
func (s *Service) lastSerial(seen uint64) uint64 {
	if seen == 0 {
		s.lastIP.serial++
	}
	s.lastIP.serial = max(s.lastIP.serial, seen)
	return s.lastIP.serial
}

func (s *Service) networkByID(id string) *bridgeNetwork {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.networks[id]
}
