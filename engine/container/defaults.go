//go:build linux

package container

import (
	"github.com/moby/moby/api/types/container"

	"github.com/getberth/berth/engine/container/oci"
)

// Defaults are what containers get that ask for nothing and that may change while the engine runs. The zero value of a field is
// Docker's default.
type Defaults struct {
	ShmSize      int64                  // bytes
	IpcMode      container.IpcMode      // "private" when empty
	CgroupnsMode container.CgroupnsMode // when empty, "private" with cgroup v2, else "host"
	StopTimeout  *int                   // seconds; 10 when nil
}

// SetDefaults changes what containers get that are created from now on, and how long those may take to stop that say nothing.
func (s *Service) SetDefaults(d Defaults) {
	if d.ShmSize == 0 {
		d.ShmSize = oci.DefaultShmSize
	}
	if d.IpcMode == "" {
		d.IpcMode = container.IPCModePrivate
	}
	if d.CgroupnsMode == "" {
		d.CgroupnsMode = container.CgroupnsModeHost
		if s.sys.v2 {
			d.CgroupnsMode = container.CgroupnsModePrivate
		}
	}
	if d.StopTimeout == nil {
		seconds := defaultStopTimeout
		d.StopTimeout = &seconds
	}
	s.defaults.Store(&d)
}
