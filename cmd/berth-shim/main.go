//go:build linux

// Command berth-shim supervises one container. The engine runs it from a sealed memfd, ahead of need, and tells it the
// container's bundle over a socket; as "init" it is what libcontainer turns into the container's first process. It outlives
// the engine: it keeps the
// container's stdio and log, answers on a socket in the bundle (package shim has the protocol), and leaves the exit code in a
// file. It ends when the container has ended and its clients have got all output.
//
// It is not a subreaper: the kernel hands orphans of a private pid namespace to that namespace's first process, and those of
// the host's to the host's, which reaps them. What must not outlive the container is found by its cgroup.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // joins namespaces before Go's threads exist
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "init" {
		libcontainer.Init() // does not return
	}
	// Until the container runs the heap is not worth collecting; trim does it afterwards.
	debug.SetGCPercent(-1)
	logrus.SetLevel(logrus.WarnLevel)
	setName("berth-shim")
	// When the host runs out of memory, what the container needs to be seen to its end goes last. Its processes get a score of their own
	// (newContainer). It takes CAP_SYS_RESOURCE.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-998"), 0)
	// Whoever stops the engine may signal its whole process group or control group. Signals are caught rather than ignored,
	// because ignoring would be inherited by the container.
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	control, err := openControl()
	if err != nil {
		fmt.Fprintln(os.Stderr, "berth-shim is started by berthd:", err)
		os.Exit(2)
	}
	warmUp()
	if err := run(control); err != nil {
		fmt.Fprintln(os.Stderr, "berth-shim:", err)
		os.Exit(1)
	}
}
