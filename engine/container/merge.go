//go:build linux

package container

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// mergeImage fills in what the client left open from the image's configuration, as Docker does.
func mergeImage(own container.Config, img v1.DockerOCIImageConfig) (*container.Config, error) {
	c := own
	c.User = or(own.User, img.User)
	if c.WorkingDir = or(own.WorkingDir, img.WorkingDir); c.WorkingDir != "" {
		c.WorkingDir = path.Clean(c.WorkingDir)
	}
	c.StopSignal = or(own.StopSignal, img.StopSignal)
	c.Env = mergeEnv(own.Env, img.Env)
	c.Labels = overlay(img.Labels, own.Labels)
	c.Entrypoint, c.Cmd = mergeCommand(own, img)
	c.Healthcheck = mergeHealth(own.Healthcheck, img.Healthcheck)
	if len(own.Shell) == 0 {
		c.Shell = img.Shell
	}
	if len(img.Volumes) > 0 || len(own.Volumes) > 0 {
		c.Volumes = overlay(img.Volumes, own.Volumes)
	}
	ports, err := mergePorts(own.ExposedPorts, img.ExposedPorts)
	c.ExposedPorts = ports
	return &c, err
}

func or(first, second string) string {
	if first != "" {
		return first
	}
	return second
}

// overlay returns base with over put on top; never nil.
func overlay[K comparable, V any](base, over map[K]V) map[K]V {
	m := make(map[K]V, len(base)+len(over))
	maps.Copy(m, base)
	maps.Copy(m, over)
	return m
}

// mergeEnv keeps the client's variables in their order and appends the image's others.
func mergeEnv(own, img []string) []string {
	if len(own) == 0 {
		return slices.Clone(img)
	}
	env := slices.Clone(own)
	set := map[string]bool{}
	for _, e := range own {
		set[envName(e)] = true
	}
	for _, e := range img {
		if !set[envName(e)] {
			env = append(env, e)
		}
	}
	return env
}

func envName(e string) string {
	name, _, _ := strings.Cut(e, "=")
	return name
}

// mergeCommand: a client's entrypoint, even an empty one, makes the image's command void; a null entrypoint is the image's.
// [""] is how clients write "no entrypoint".
func mergeCommand(own container.Config, img v1.DockerOCIImageConfig) (entrypoint, cmd []string) {
	entrypoint, cmd = own.Entrypoint, own.Cmd
	if len(entrypoint) == 0 {
		if len(cmd) == 0 {
			cmd = img.Cmd
		}
		if entrypoint == nil {
			entrypoint = img.Entrypoint
		}
	}
	if len(entrypoint) == 1 && entrypoint[0] == "" {
		entrypoint = nil
	}
	return entrypoint, cmd
}

func mergeHealth(own, img *container.HealthConfig) *container.HealthConfig {
	if own == nil || img == nil {
		if own != nil {
			return own
		}
		return img
	}
	h := *own
	if len(h.Test) == 0 {
		h.Test = img.Test
	}
	if h.Interval == 0 {
		h.Interval = img.Interval
	}
	if h.Timeout == 0 {
		h.Timeout = img.Timeout
	}
	if h.StartPeriod == 0 {
		h.StartPeriod = img.StartPeriod
	}
	if h.StartInterval == 0 {
		h.StartInterval = img.StartInterval
	}
	if h.Retries == 0 {
		h.Retries = img.Retries
	}
	return &h
}

func mergePorts(own network.PortSet, img map[string]struct{}) (network.PortSet, error) {
	if len(own) == 0 && len(img) == 0 {
		return nil, nil
	}
	ports := maps.Clone(own)
	if ports == nil {
		ports = network.PortSet{}
	}
	for p := range img {
		r, err := network.ParsePortRange(p)
		if err != nil {
			return nil, invalid("the image exposes an invalid port %q: %v", p, err)
		}
		for port := range r.All() {
			ports[port] = struct{}{}
		}
	}
	return ports, nil
}
