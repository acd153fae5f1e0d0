//go:build linux

package pid1

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// waitEmpty returns when no process is left in the groups, or after the timeout. The kernel reports changes of cgroup.events by
// inotify. Source: linux/Documentation/admin-guide/cgroup-v2.rst, "Un]populated Notification".
func waitEmpty(groups []string, timeout time.Duration) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	for _, g := range groups {
		_, _ = unix.InotifyAddWatch(fd, filepath.Join(g, "cgroup.events"), unix.IN_MODIFY)
	}
	deadline := time.Now().Add(timeout)
	buf := make([]byte, 4096)
	for anyPopulated(groups) {
		left := time.Until(deadline)
		if left <= 0 {
			return
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, int(left.Milliseconds())+1); err == nil && n > 0 {
			_, _ = unix.Read(fd, buf)
		}
	}
}

func anyPopulated(groups []string) bool {
	for _, g := range groups {
		b, err := os.ReadFile(filepath.Join(g, "cgroup.events"))
		if err == nil && strings.Contains(string(b), "populated 1") {
			return true
		}
	}
	return false
}
