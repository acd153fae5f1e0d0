//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"

	_ "github.com/opencontainers/cgroups/devices" // lets cgroup managers set device rules
	"github.com/opencontainers/cgroups/fscommon"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func newContainer(bundle, id string, spec *specs.Spec) (*libcontainer.Container, error) {
	if spec.Process.OOMScoreAdj == nil {
		spec.Process.OOMScoreAdj = new(int) // else the engine's, which may be protected, is inherited
	}
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: id, Spec: spec})
	if err != nil {
		return nil, err
	}
	return libcontainer.Create(bundle, id, config)
}

// oomKilled tells whether the kernel has killed a process of the container for want of memory. It needs the cgroup, so it is
// asked before that is removed.
func oomKilled(c *libcontainer.Container) bool {
	state, err := c.State()
	if err != nil {
		return false
	}
	dir, file := state.CgroupPaths["memory"], "memory.oom_control"
	if dir == "" {
		dir, file = state.CgroupPaths[""], "memory.events"
	}
	n, err := fscommon.GetValueByKey(dir, file, "oom_kill")
	return err == nil && n > 0
}

// killAll kills every process in the container's cgroup.
func killAll(c *libcontainer.Container) {
	err := c.Signal(unix.SIGKILL)
	if err != nil && !errors.Is(err, libcontainer.ErrNotRunning) && !errors.Is(err, libcontainer.ErrCgroupNotExist) {
		fmt.Fprintln(os.Stderr, "berth-shim: killing the container's processes:", err)
	}
}

// destroy removes the cgroup and libcontainer's files.
func destroy(c *libcontainer.Container) error {
	if err := c.Destroy(); err != nil {
		return fmt.Errorf("clearing up: %w", err)
	}
	return nil
}
