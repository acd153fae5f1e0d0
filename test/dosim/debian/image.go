//go:build linux

// Package debian makes the disk of a test machine: a Debian 12 with systemd, OpenSSH and cloud-init for DigitalOcean, and the
// kernel and initial RAM disk with which QEMU boots it directly. It needs root, mmdebstrap, mke2fs, busybox-static and a Debian
// mirror, and keeps what it made in the user's cache, keyed by its recipe.
package debian

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/getberth/berth/test/rootfs"
)

//go:embed recipe
var recipe embed.FS

// layout is part of the cache's key: raise it when this package makes the same recipe into something else.
const layout = "3"

// diskSize is the size of the root file system, and so of a droplet's disk. The file is sparse.
const diskSize = "12G"

// Mirror is where packages come from, unless BERTH_DEBIAN_MIRROR names another.
const Mirror = "http://deb.debian.org/debian"

// Files are what QEMU boots.
type Files struct {
	Disk   string // raw ext4 without a partition table, to be mounted as /dev/vda; never to be written: put an overlay on it
	Kernel string
	Initrd string
}

// Cmdline is the kernel's command line, without a console: the root disk is the first virtio disk and network devices are called
// eth0 and eth1 in the order of their places on the bus.
const Cmdline = "root=/dev/vda rw net.ifnames=0 mitigations=off tsc=reliable no_timer_check quiet loglevel=3 systemd.show_status=false"

// Cache is the folder that images and what is made from them live in. A cache that cannot be is replaced by a folder for
// temporary files.
func Cache() (string, error) { return rootfs.Cache("dosim") }

// Image returns the image, made first if the cache has none of the present recipe, which takes one to three minutes. Progress
// goes to log. Several processes may call it: one makes, the others wait.
func Image(ctx context.Context, log io.Writer) (Files, error) {
	f, err := image(ctx, log)
	if err != nil {
		return f, fmt.Errorf("making a Debian image: %w", err)
	}
	return f, nil
}

func image(ctx context.Context, log io.Writer) (Files, error) {
	if runtime.GOARCH != "amd64" {
		return Files{}, fmt.Errorf("requires amd64, this is %s", runtime.GOARCH)
	}
	cache, err := Cache()
	if err != nil {
		return Files{}, err
	}
	key, err := rootfs.Key(recipe, layout, diskSize)
	if err != nil {
		return Files{}, err
	}
	dir, err := rootfs.Keep(ctx, cache, "debian", key, func(tmp string) error { return build(ctx, log, tmp) })
	return Files{filepath.Join(dir, "root.ext4"), filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd")}, err
}

// build makes the image in the folder "out" of tmp.
func build(ctx context.Context, log io.Writer, tmp string) error {
	if os.Geteuid() != 0 {
		return errors.New("requires root")
	}
	for _, p := range []string{"mmdebstrap", "mke2fs", "busybox", "unshare"} {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("%w\nhint: test/setup test", err)
		}
	}
	if err := os.CopyFS(tmp, recipe); err != nil {
		return err
	}
	fmt.Fprintln(log, "making the Debian image of droplets (once; a few minutes) ...")
	if err := bootstrap(ctx, tmp); err != nil {
		return err
	}
	if err := writeInitrd(filepath.Join(tmp, "out", "initrd"), filepath.Join(tmp, "out")); err != nil {
		return fmt.Errorf("its initial RAM disk: %w", err)
	}
	return nil
}

// writeInitrd packs the host's static busybox, the recipe's init and the modules of a folder.
func writeInitrd(to, modules string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	init, err := recipe.ReadFile("recipe/init")
	if err != nil {
		return err
	}
	return rootfs.WriteInitrd(to, busybox, init, modules)
}

// bootstrap has mmdebstrap make the root's tree, and packs it. mmdebstrap has namespaces of its own for mounts and processes: however
// it ends, nothing that it started or mounted outlives it, and no removal of its folder reaches through a mount.
func bootstrap(ctx context.Context, tmp string) error {
	packages, err := recipe.ReadFile("recipe/packages")
	if err != nil {
		return err
	}
	mirror := os.Getenv("BERTH_DEBIAN_MIRROR")
	if mirror == "" {
		mirror = Mirror
	}
	return rootfs.Run(ctx, tmp, nil,
		slices.Concat([]string{"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "mmdebstrap", "--mode=root", "--variant=minbase"}, rootfs.Small(),
			[]string{"--include=" + strings.Join(strings.Fields(string(packages)), ","),
				fmt.Sprintf(`--customize-hook=sh '%s/recipe/kernel' "$1" '%s/out'`, tmp, tmp),
				"bookworm", filepath.Join(tmp, "root"), mirror}),
		[]string{"sh", filepath.Join(tmp, "recipe/finish"), filepath.Join(tmp, "root"), filepath.Join(tmp, "recipe")},
		rootfs.Disk(filepath.Join(tmp, "root"), filepath.Join(tmp, "out", "root.ext4"), diskSize))
}
