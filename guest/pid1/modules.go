//go:build linux

package pid1

import (
	"log/slog"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/guest/kmod"
)

// loadModules loads those of one stage, as the image's maker wrote them down: "boot" is what the boot
// waits for, "engine" what the engine needs to be there, "idle" what can wait.
func loadModules(log *slog.Logger, stage string) {
	var u unix.Utsname
	err := unix.Uname(&u)
	if err == nil {
		var paths []string
		if paths, err = kmod.List(filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]), stage)); err == nil {
			err = kmod.Load(paths)
		}
	}
	if err != nil {
		log.Warn("some modules are missing", "stage", stage, "error", err)
	}
}
