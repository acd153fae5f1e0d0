//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// settle is how long an engine is left alone before its memory is read: what it does in the background ends in this time.
const settle = 3 * time.Second

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// measureResident reads the memory of engines that run no container.
func measureResident(ctx context.Context, _ *bench, ours, peer *server) ([]figure, error) {
	progress("memory of idle engines")
	if err := pause(ctx, settle); err != nil {
		return nil, err
	}
	f := figure{what: "memory of the idle engine (RSS)", unit: "MB", with: "dockerd 20.10 + containerd", target: target{most: 60}}
	for _, s := range []struct {
		server  *server
		samples *[]float64
	}{{ours, &f.ours}, {peer, &f.peer}} {
		if s.server == nil {
			continue
		}
		bytes, err := s.server.resident()
		if err != nil {
			return nil, err
		}
		*s.samples = []float64{megabytes(bytes)}
	}
	return []figure{f}, nil
}

// resident is the memory of the engine and of dockerd's containerd, in bytes.
func (s *server) resident() (sum int64, err error) {
	for _, pid := range append(childrenOf(s.cmd.Process.Pid, "containerd"), s.cmd.Process.Pid) {
		n, err := memory(pid, "Rss:")
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// measureIdle starts containers that do nothing and reads the private memory of their supervisors.
func measureIdle(ctx context.Context, b *bench, ours, peer *server) ([]figure, error) {
	progress("memory of %d idle containers", b.idle)
	f := figure{what: "private memory per idle container", unit: "MB", with: "containerd-shim of dockerd 20.10", target: target{most: 3}}
	g := figure{what: fmt.Sprintf("memory of the engine with %d idle containers (RSS)", b.idle), unit: "MB", with: "dockerd 20.10 + containerd"}
	var err error
	if f.ours, g.ours, err = ours.idle(ctx, b.idle); err != nil {
		return nil, err
	}
	if peer != nil {
		if f.peer, g.peer, err = peer.idle(ctx, b.idle); err != nil {
			return nil, err
		}
	}
	return []figure{f, g}, nil
}

func (s *server) idle(ctx context.Context, count int) (each, engine []float64, err error) {
	var ids []string
	for range count {
		id, err := s.docker(ctx, "run", "-d", image, "sleep", "3600")
		if err != nil {
			return nil, nil, err
		}
		ids = append(ids, id)
	}
	if err := pause(ctx, settle); err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		bytes, err := s.supervisorMemory(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		each = append(each, megabytes(bytes))
	}
	bytes, err := s.resident()
	return each, []float64{megabytes(bytes)}, err
}

// supervisorMemory is the private memory of the process above the container's first one, in bytes.
func (s *server) supervisorMemory(ctx context.Context, id string) (int64, error) {
	text, err := s.docker(ctx, "inspect", "-f", "{{.State.Pid}}", id)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("container %s: PID %q", id, text)
	}
	parent, err := parentOf(pid)
	if err != nil {
		return 0, err
	}
	return memory(parent, "Private_Clean:", "Private_Dirty:", "Private_Hugetlb:")
}

// memory sums fields of a process's smaps_rollup, in bytes. Source: proc_pid_smaps(5).
func memory(pid int, fields ...string) (sum int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		for _, f := range fields {
			if words[0] != f {
				continue
			}
			kib, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("memory of process %d: %w", pid, err)
			}
			sum += kib << 10
		}
	}
	return sum, nil
}

// parentOf reads the fourth field of a process's stat, counted behind its name, which may hold anything. Source: proc_pid_stat(5).
func parentOf(pid int) (int, error) {
	_, ppid, err := stat(pid)
	return ppid, err
}

func stat(pid int) (name string, ppid int, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, err
	}
	text := string(b)
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return "", 0, fmt.Errorf("process %d: stat %q", pid, text)
	}
	if _, err := fmt.Sscanf(text[end+1:], " %c %d", new(rune), &ppid); err != nil {
		return "", 0, fmt.Errorf("process %d: stat %q: %w", pid, text, err)
	}
	return text[open+1 : end], ppid, nil
}

// childrenOf finds the children of a process that bear a name.
func childrenOf(parent int, name string) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		if n, p, err := stat(pid); err == nil && p == parent && n == name {
			pids = append(pids, pid)
		}
	}
	return pids
}
