package network

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inside tells the test binary that it already runs in namespaces of its own.
const inside = "BERTH_TEST_NAMESPACE"

// TestMain runs all tests again in network and mount namespaces of their own: whatever they make is gone with them.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(runInside(m))
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is about the thread
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() < 0 {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(0)
}

func runInside(m *testing.M) int {
	if os.Getenv(inside) == "" || os.Getenv(unprivileged) != "" {
		return m.Run() // privileged tests skip
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		fmt.Fprintln(os.Stderr, "making mounts private:", err)
		return 1
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil { // runtime state, as on a real host
		fmt.Fprintln(os.Stderr, "mounting /run:", err)
		return 1
	}
	if err := netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1}}); err != nil {
		fmt.Fprintln(os.Stderr, "setting lo up:", err)
		return 1
	}
	return m.Run()
}

// needRoot skips a test that needs namespaces.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("needs root, for network namespaces")
	}
}
