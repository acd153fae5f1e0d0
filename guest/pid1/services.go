//go:build linux

package pid1

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/guest/seed"
)

// engineLog is where the engine's messages go; the host reads its tail when something is wrong.
const engineLog = "/var/log/berthd.log"

// logMax is the size at which a log is put aside at the next boot, in bytes.
const logMax = 8 << 20

func (i *initd) startEngine(ctx context.Context) error {
	notify, err := i.listenReady(ctx, "engine")
	if err != nil {
		return err
	}
	log, err := openLog(engineLog)
	if err != nil {
		return err
	}
	// At SIGPWR the engine stops its containers before it ends.
	i.children.keep(service{name: "engine", log: log, end: unix.SIGPWR, command: func() (*exec.Cmd, error) {
		cmd, err := engineCommand()
		if err == nil {
			cmd.Env = append(os.Environ(), notify)
		}
		return cmd, err
	}})
	return nil
}

func engineCommand() (*exec.Cmd, error) {
	binary := config.GuestBinary // provisioning puts newer ones at config.Binary
	if _, err := os.Stat(config.Binary); err == nil {
		binary = config.Binary
	}
	args := []string{"serve", "--config-file", config.File, "--tls-await", "--pidfile", "/run/berth/berthd.pid"}
	if ports := "/dev/virtio-ports/" + seed.PortsPort; exists(ports) {
		args = append(args, "--ports-channel", ports, "--ports-relay", seed.Gateway)
	}
	if err := os.MkdirAll(config.ExecRoot, 0o711); err != nil {
		return nil, err
	}
	return exec.Command(binary, args...), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// openLog appends to a log; one that has grown too large is put aside first.
func openLog(path string) (*os.File, error) {
	if fi, err := os.Stat(path); err == nil && fi.Size() > logMax {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
}

// containerGrace is how long containers may take whose engine could not stop them.
const containerGrace = 5 * time.Second

// stopContainers ends what still runs in containers after the engine has gone, which leaves none when all is well: a polite
// signal, then, after the grace, the other. Their supervisors write down how they ended.
func (i *initd) stopContainers() {
	groups := containerGroups()
	if len(groups) == 0 {
		return
	}
	i.log.Info("stopping containers", "count", len(groups))
	for _, g := range groups {
		for _, pid := range firstProcess(g) {
			_ = unix.Kill(pid, unix.SIGTERM)
		}
	}
	waitEmpty(groups, containerGrace)
	for _, g := range groups {
		_ = os.WriteFile(filepath.Join(g, "cgroup.kill"), []byte("1"), 0)
	}
	waitEmpty(groups, containerGrace)
}

// containerGroups are the control groups of containers, which the engine keeps below "berth".
func containerGroups() []string {
	dirs, _ := filepath.Glob(filepath.Join(cgroupRoot, "berth", "*", "cgroup.events"))
	for n, d := range dirs {
		dirs[n] = filepath.Dir(d)
	}
	return dirs
}

// firstProcess is the container's own init, which is the first in its group.
func firstProcess(group string) []int {
	b, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	if err != nil {
		return nil
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil || pid <= 1 {
		return nil
	}
	return []int{pid}
}
