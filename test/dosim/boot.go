package dosim

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A guest that has been asked to turn itself off has this long, as at DigitalOcean; then the action ends in error.
const shutdownPatience = 2 * time.Minute

// boot brings a new droplet to life in the background, and completes its action.
func (s *Server) boot(d *droplet, a *action, trouble Boot) {
	s.background(func() {
		delay := s.opt.ActiveAfter + time.Duration(trouble.Delay)
		if trouble.Never {
			<-s.ctx.Done()
			return
		}
		if !sleep(s.ctx, delay) {
			return
		}
		err := s.powerOn(d)
		s.mu.Lock()
		defer s.mu.Unlock()
		d.Locked = false
		a.end(err)
	})
}

// powerOn starts a droplet's machine and sees to it that the API knows when it has gone off.
func (s *Server) powerOn(d *droplet) error {
	s.mu.Lock()
	if d.gone {
		s.mu.Unlock()
		return fmt.Errorf("droplet %d is gone", d.ID)
	}
	m := s.machine(d)
	d.Booted = true
	s.mu.Unlock()
	var off <-chan struct{}
	if s.opt.Machines != nil {
		var err error
		if off, err = s.opt.Machines.Start(s.ctx, m); err != nil {
			s.logf("droplet %d: %v", d.ID, err)
			return err
		}
	}
	s.mu.Lock()
	d.Status = "active"
	gone := d.gone
	s.mu.Unlock()
	if gone && s.opt.Machines != nil { // it was removed while it started
		return s.opt.Machines.Remove(d.ID)
	}
	s.logf("droplet %d (%s): active at %s", d.ID, d.Name, d.Public)
	if off != nil {
		s.background(func() {
			select {
			case <-off:
				s.mu.Lock()
				d.Status = "off"
				s.mu.Unlock()
				s.logf("droplet %d (%s): off", d.ID, d.Name)
			case <-s.ctx.Done():
			}
		})
	}
	return s.protect()
}

// machine is what Machines is told of a droplet.
func (s *Server) machine(d *droplet) Machine {
	m := Machine{ID: d.ID, Name: d.Name, Memory: d.Size.Memory, VPC: d.VPC.ID, Metadata: s.metadata(d),
		Private: NIC{mac(d.ID, 1), d.Private}}
	if d.Image.Of != 0 {
		m.Snapshot = d.Image.ID
	}
	for _, v := range s.volumes {
		if slices.Contains(v.DropletIDs, d.ID) {
			m.Volumes = append(m.Volumes, v.spec())
		}
	}
	if d.Public.IsValid() {
		m.Public = &NIC{mac(d.ID, 0), d.Public}
	}
	return m
}

// mac is a locally administered address made of a droplet's id.
func mac(id, nic int) string {
	return fmt.Sprintf("fe:%02x:%02x:%02x:%02x:%02x", nic+1, id>>24&0xff, id>>16&0xff, id>>8&0xff, id&0xff)
}

// power does what an action asks of a droplet's machine. Without machines it changes the status only.
func (s *Server) power(d *droplet, kind string) error {
	ms := s.opt.Machines
	switch kind {
	case "power_on":
		return s.powerOn(d)
	case "power_off":
		if ms != nil {
			if err := ms.PowerOff(d.ID); err != nil {
				return err
			}
		}
	case "shutdown":
		if ms != nil {
			ctx, cancel := context.WithTimeout(s.ctx, shutdownPatience)
			defer cancel()
			if err := ms.Shutdown(ctx, d.ID); err != nil {
				return err
			}
		}
	case "reboot", "power_cycle":
		if ms != nil {
			return ms.Reset(d.ID)
		}
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d.Status = "off"
	return nil
}
