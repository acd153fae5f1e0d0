//go:build linux

package engine

import (
	"fmt"
	"io"
	"os"

	"github.com/moby/moby/api/types/container"

	"github.com/getberth/berth/engine/config"
	ctr "github.com/getberth/berth/engine/container"
)

// containerConfig is what the configuration says of containers.
func (e *engine) containerConfig() (ctr.Config, error) {
	servers, err := addresses(e.cfg.DNS)
	if err != nil {
		return ctr.Config{}, err
	}
	gateways, err := addresses(e.cfg.HostGatewayIPs)
	if err != nil {
		return ctr.Config{}, err
	}
	profile, err := seccompProfile(e.cfg.SeccompProfile)
	if err != nil {
		return ctr.Config{}, err
	}
	return ctr.Config{
		Root: e.cfg.DataRoot, ExecRoot: e.cfg.ExecRoot,
		LogDriver: e.cfg.LogDriver, LogOpts: e.cfg.LogOpts,
		DNS: servers, DNSSearch: e.cfg.DNSSearch, DNSOptions: e.cfg.DNSOptions, HostGateway: gateways,
		Ulimits: ulimits(e.cfg.DefaultUlimits), CgroupParent: e.cfg.CgroupParent, Init: e.cfg.Init,
		SeccompProfile: profile, NoNewPrivileges: e.cfg.NoNewPrivileges, Defaults: containerDefaults(e.cfg),
		StorageDriver: e.images.Snapshotter(), Log: e.log,
	}, nil
}

// containerDefaults is the part of it that a reload changes.
func containerDefaults(c config.Config) ctr.Defaults {
	return ctr.Defaults{
		ShmSize: int64(c.DefaultShmSize), IpcMode: container.IpcMode(c.DefaultIPCMode),
		CgroupnsMode: container.CgroupnsMode(c.DefaultCgroupnsMode), StopTimeout: c.DefaultStopTimeout,
	}
}

func ulimits(from config.Ulimits) (list []*container.Ulimit) {
	for name, l := range from {
		list = append(list, &container.Ulimit{Name: name, Soft: l.Soft, Hard: l.Hard})
	}
	return list
}

// seccompProfile reads the default profile, unless it is one that has a name.
func seccompProfile(path string) (string, error) {
	if path == "" || path == "builtin" || path == "unconfined" {
		return path, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("opening seccomp profile (%s) failed: %w", path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, config.MaxSize+1))
	if err != nil {
		return "", fmt.Errorf("opening seccomp profile (%s) failed: %w", path, err)
	}
	if len(data) > config.MaxSize {
		return "", fmt.Errorf("seccomp profile %s is longer than %d bytes", path, config.MaxSize)
	}
	return string(data), nil
}
