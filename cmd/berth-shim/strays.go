//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// reapStrays ends children that nobody waits for. A process that joins the container's namespaces is made in three steps; when
// that fails half-way, as it does while the container ends, libcontainer leaves those that were made to the end of its own
// process, which with runc follows at once. As long as one is here, even as a zombie, the kernel lets the first process of
// their pid namespace not end. No process may be starting meanwhile.
func reapStrays(mine func(pid int) bool) {
	for {
		found := false
		for _, pid := range children() {
			if mine(pid) {
				continue
			}
			_ = unix.Kill(pid, unix.SIGKILL)
			found = reap(pid) || found
		}
		if !found { // the last round has seen no child that one of the killed had made
			return
		}
	}
}

// reap waits for a child, and reports whether it was one.
func reap(pid int) bool {
	for {
		_, err := unix.Wait4(pid, nil, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// children are the pids of this process's children, of whichever of its threads (proc_pid_task(5); Linux >= 4.2).
func children() []int {
	var pids []int
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, task := range tasks {
		text, _ := os.ReadFile(task) // a thread may have ended
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
