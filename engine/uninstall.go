//go:build linux

package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/engine/network"
	"github.com/getberth/berth/engine/runtime"
)

// Uninstall ends all containers and removes what engines with this configuration have made: containers, images, volumes,
// networks with their interfaces and firewall, cgroups, and all files in the data root and exec root. It fails while an engine
// runs. What cannot be opened is removed nonetheless; a second call finishes what one that failed has left.
func Uninstall(ctx context.Context, c config.Config, log *slog.Logger) error {
	if !exists(c.DataRoot) && !exists(c.ExecRoot) {
		return nil
	}
	c.PIDFile = filepath.Join(c.ExecRoot, "uninstall.pid")
	lock, err := claim(c)
	if err != nil {
		return err
	}
	defer release(c, lock)
	if err := endContainers(ctx, c); err != nil {
		return err
	}
	if err := clearNetworks(ctx, c, log); err != nil {
		return err
	}
	for _, root := range []string{c.ExecRoot, c.DataRoot} {
		if err := unmountBelow(root); err != nil {
			return err
		}
	}
	return errors.Join(emptyRoot(c.ExecRoot, config.ExecRoot), emptyRoot(c.DataRoot, config.DataRoot))
}

// endContainers kills the containers that run, whether an engine knows them or not.
func endContainers(ctx context.Context, c config.Config) error {
	rt, err := runtime.New(runtime.Config{ExecRoot: c.ExecRoot})
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(c.ExecRoot, "containers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, rt.Delete(ctx, e.Name()))
	}
	return errors.Join(append(errs, rt.Close())...) // Close removes the cgroups' parents
}

func clearNetworks(ctx context.Context, c config.Config, log *slog.Logger) error {
	n, err := network.Open(ctx, network.Config{Root: c.DataRoot, ExecRoot: c.ExecRoot, Bridge: c.Bridge, Log: log})
	if err != nil {
		return err
	}
	return errors.Join(n.Clear(ctx), n.Close())
}

// unmountBelow unmounts all below a folder, the last mounted first; the folder itself may be a disk of the machine's owner.
func unmountBelow(root string) error {
	mounts, err := mountsBelow(root)
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmounting %s: %w", m, err)
		}
	}
	left, err := mountsBelow(root)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%s is still mounted: nothing in %s is deleted", left[0], root)
	}
	return err
}

func mountsBelow(root string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	root = strings.TrimSuffix(root, "/") + "/"
	var found []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if at := unescape(fields[4]); strings.HasPrefix(at, root) {
			found = append(found, at)
		}
	}
	return found, lines.Err()
}

// unescape undoes what proc_pid_mountinfo(5) says is escaped.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// emptyRoot removes a folder of the engine's. One that the user has chosen may hold other things: there, only what engines make
// goes. A folder that is a mount, or is not empty then, stays.
func emptyRoot(root, usual string) error {
	var names []string
	if root == usual {
		entries, err := os.ReadDir(root)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
	} else {
		names = []string{
			"image", "networks", "volumes", "containers", "engine-id", lockName, // of the data root
			"network", "netns", "rootfs", "docker.sock", "berthd.pid", "uninstall.pid", // of the exec root
		}
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, os.RemoveAll(filepath.Join(root, name)))
	}
	_ = os.Remove(root)
	return errors.Join(errs...)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
