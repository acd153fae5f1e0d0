//go:build linux

package pid1

import (
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/guest/kmod"
)

// bootModules lists the modules to load, in order, as the image's maker wrote them down.
func bootModules() ([]string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, err
	}
	return kmod.List(filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]), "boot"))
}

// splitModules parts those that the boot waits for (network card, channels) from those that the first container needs.
func splitModules(paths []string) (early, late []string) {
	n := 1 + slices.IndexFunc(paths, func(p string) bool { return strings.HasSuffix(p, "/virtio_console.ko") })
	return paths[:n], paths[n:]
}

func loadModules(log *slog.Logger, paths []string) {
	if err := kmod.Load(paths); err != nil {
		log.Warn("some modules are missing", "error", err)
	}
}
