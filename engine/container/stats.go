//go:build linux

package container

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
)

const statsInterval = time.Second

// Stats emits what a container uses: once, or each second with stream until the container is gone or the client is. Unless
// oneShot is set, a single sample comes with the one a second before it. A container that does not run uses nothing.
func (s *Service) Stats(ctx context.Context, ref string, stream, oneShot bool, emit func(container.StatsResponse) error) error {
	c, err := s.reg.find(ref)
	if err != nil {
		return err
	}
	last := s.sample(ctx, c)
	if !stream && (oneShot || last.Read.IsZero()) {
		return emit(last)
	}
	ticker := time.NewTicker(statsInterval)
	defer ticker.Stop()
	if stream {
		if err := emit(last); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		next := s.sample(ctx, c)
		next.PreRead, next.PreCPUStats = last.Read, last.CPUStats
		if err := emit(next); err != nil || !stream {
			return err
		}
		if c.isGone() {
			return nil
		}
		last = next
	}
}

func (c *instance) isGone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// sample is empty but for the names when the container does not run.
func (s *Service) sample(ctx context.Context, c *instance) container.StatsResponse {
	spec, state := c.view()
	empty := container.StatsResponse{ID: spec.ID, Name: "/" + spec.Name, OSType: "linux"}
	if !state.running() {
		return empty
	}
	st, err := s.deps.Runtime.Stats(ctx, c.id)
	if err != nil { // it ends just now
		return empty
	}
	st.ID, st.Name, st.OSType = empty.ID, empty.Name, empty.OSType
	if st.Read.IsZero() {
		st.Read = time.Now()
	}
	if !spec.HostConfig.NetworkMode.IsHost() && !spec.HostConfig.NetworkMode.IsNone() {
		st.Networks = interfaces(state.PID)
	}
	return st
}

// interfaces counts the traffic of each interface in a process's network namespace; nil when the process is gone.
func interfaces(pid int) map[string]container.NetworkStats {
	f, err := os.Open(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil
	}
	defer f.Close()
	all := map[string]container.NetworkStats{}
	for scanner := bufio.NewScanner(f); scanner.Scan(); {
		if name, st, ok := parseInterface(scanner.Text()); ok && name != "lo" {
			all[name] = st
		}
	}
	return all
}

// parseInterface reads a line of /proc/net/dev, see proc_pid_net(5).
func parseInterface(line string) (string, container.NetworkStats, bool) {
	name, rest, ok := strings.Cut(line, ":")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 16 {
		return "", container.NetworkStats{}, false
	}
	n := make([]uint64, len(fields))
	for i, f := range fields {
		v, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return "", container.NetworkStats{}, false
		}
		n[i] = v
	}
	return strings.TrimSpace(name), container.NetworkStats{
		RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3],
		TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11],
	}, true
}
