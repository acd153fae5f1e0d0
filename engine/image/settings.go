//go:build linux

package image

import (
	"cmp"

	"github.com/getberth/berth/engine/image/remote"
)

// Settings are the part of a Config that may change while the service is open. The zero value of a number is Docker's.
type Settings struct {
	Mirrors            []string // http(s)://host[:port], asked before docker.io
	InsecureRegistries []string // host, host:port or CIDR; 127.0.0.0/8 always is
	Downloads          int      // layers of an image that are fetched at a time
	Uploads            int      // blobs of an image that are sent at a time
	Attempts           int      // to fetch a layer
}

// settings are Settings that have been checked.
type settings struct {
	Settings
	registries *remote.Registries
}

// Reconfigure changes the settings of what begins from now on.
func (s *Service) Reconfigure(c Settings) error {
	registries, err := remote.New(c.Mirrors, c.InsecureRegistries, s.cfg.UserAgent)
	if err != nil {
		return err
	}
	c.Downloads, c.Uploads = cmp.Or(c.Downloads, parallelDownloads), cmp.Or(c.Uploads, parallelUploads)
	c.Attempts = cmp.Or(c.Attempts, fetchAttempts)
	s.settings.Store(&settings{c, registries})
	return nil
}

// now are the settings as they are.
func (s *Service) now() *settings { return s.settings.Load() }
