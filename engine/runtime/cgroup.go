//go:build linux

package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/runtime/shim"
)

// hierarchies is where cgroups are mounted: one folder with v2, one for each controller with v1.
type hierarchies struct {
	v2    bool
	roots map[string]string // v1: by controller; "" is the unified one beside them
}

func findHierarchies() (*hierarchies, error) {
	if cgroups.IsCgroup2UnifiedMode() {
		return &hierarchies{v2: true}, nil
	}
	m, err := fs.NewManager(&cgroups.Cgroup{Path: "/", Resources: &cgroups.Resources{}}, nil)
	if err != nil {
		return nil, fmt.Errorf("finding cgroups: %w", err)
	}
	return &hierarchies{roots: m.GetPaths()}, nil
}

// group is the cgroup of one container.
type group struct {
	manager cgroups.Manager
	v2      bool
	unified string // folder in the unified hierarchy; empty with pure v1
}

// removeParents removes the parents of containers' cgroups where no container is left. The kernel keeps the others.
func (h *hierarchies) removeParents() {
	roots := []string{fs2.UnifiedMountpoint}
	if !h.v2 {
		roots = slices.Collect(maps.Values(h.roots))
	}
	for _, root := range roots {
		_ = unix.Rmdir(filepath.Join(root, cgroupParent))
	}
}

func (h *hierarchies) group(path string) (*group, error) {
	config := &cgroups.Cgroup{Path: path, Resources: &cgroups.Resources{}}
	if h.v2 {
		dir := filepath.Join(fs2.UnifiedMountpoint, path)
		m, err := fs2.NewManager(config, dir)
		return &group{manager: m, v2: true, unified: dir}, err
	}
	paths := make(map[string]string, len(h.roots))
	for controller, root := range h.roots {
		paths[controller] = filepath.Join(root, path)
	}
	m, err := fs.NewManager(config, paths)
	return &group{manager: m, unified: paths[""]}, err
}

// groupOf finds the cgroup of a bundle; nil when there is no record of one.
func (s *Service) groupOf(bundle string) (*group, error) {
	b, err := os.ReadFile(filepath.Join(bundle, shim.CgroupFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("finding the cgroup: %w", err)
	}
	path := string(b)
	if filepath.Clean(path) != path || !strings.HasPrefix(path, "/") || path == "/" {
		return nil, fmt.Errorf("finding the cgroup: %q is no path of one", path)
	}
	return s.cgroups.group(path)
}

// pids are those of the processes in the cgroup; none when it does not exist.
func (g *group) pids() ([]int, error) {
	pids, err := g.manager.GetAllPids()
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	return pids, err
}

// killTimeout bounds the wait for killed processes: one may hang in the kernel, on a dead network filesystem for instance.
const killTimeout = 10 * time.Second

// kill kills all processes and returns when they are dead.
func (g *group) kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	for {
		pids, err := g.pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("killing processes %v: %w", pids, err)
		}
		if err := g.killOnce(ctx, pids); err != nil {
			return fmt.Errorf("killing processes %v: %w", pids, err)
		}
	}
}

func (g *group) killOnce(ctx context.Context, pids []int) error {
	var polled []unix.PollFd
	defer func() {
		for _, p := range polled {
			unix.Close(int(p.Fd))
		}
	}()
	if !g.v2 {
		_ = g.manager.Freeze(cgroups.Frozen) // so that none forks while the list is gone through
	}
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return fmt.Errorf("pidfd_open: %w", err)
		}
		polled = append(polled, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
	if g.unified != "" {
		_ = cgroups.WriteFile(g.unified, "cgroup.kill", "1") // Linux 5.14
	}
	if err := g.manager.Freeze(cgroups.Thawed); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return waitAll(ctx, polled)
}

// waitAll waits until all processes have ended.
func waitAll(ctx context.Context, processes []unix.PollFd) error {
	for len(processes) > 0 {
		deadline, _ := ctx.Deadline()
		left := min(time.Until(deadline), 500*time.Millisecond) // poll(2) does not see ctx
		if left <= 0 || ctx.Err() != nil {
			return context.DeadlineExceeded
		}
		one := processes[:1]
		n, err := unix.Poll(one, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
		if n > 0 {
			processes = processes[1:]
		}
	}
	return nil
}

// remove removes the cgroup.
func (g *group) remove() error {
	if err := g.manager.Destroy(); err != nil {
		return fmt.Errorf("removing the cgroup: %w", err)
	}
	return nil
}
