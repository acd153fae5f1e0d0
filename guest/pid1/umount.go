//go:build linux

package pid1

import (
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// unmountBelow unmounts what is mounted below dir, and any root file system of a container, since its layers are there.
func unmountBelow(dir string) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return
	}
	slices.Reverse(mounts)
	for _, m := range mounts {
		if strings.HasPrefix(m.Mountpoint, dir+"/") || strings.HasPrefix(m.Mountpoint, "/run/") {
			_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH)
		}
	}
}
