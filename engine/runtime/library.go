//go:build linux

package runtime

import "debug/buildinfo"

// Libcontainer is the version of runc's library in the supervisor; empty when it cannot be told.
func (s *Service) Libcontainer() string {
	image, err := s.program.load()
	if err != nil {
		return ""
	}
	info, err := buildinfo.Read(image)
	if err != nil {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/opencontainers/runc" {
			return m.Version
		}
	}
	return ""
}
