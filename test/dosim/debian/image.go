//go:build linux

// Package debian makes the disk of a test machine: a Debian 12 with systemd, OpenSSH and cloud-init for DigitalOcean, and the
// kernel and initial RAM disk with which QEMU boots it directly. It needs root, mmdebstrap, mke2fs, busybox-static and a Debian
// mirror, and keeps what it made in the user's cache, keyed by its recipe.
package debian

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

//go:embed recipe
var recipe embed.FS

// layout is part of the cache's key: raise it when this package makes the same recipe into something else.
const layout = "2"

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
func Cache() (string, error) {
	dir, err := os.UserCacheDir()
	if err == nil {
		dir = filepath.Join(dir, "berth", "dosim")
		if err = os.MkdirAll(dir, 0o755); err == nil {
			return dir, nil
		}
	}
	dir = filepath.Join(os.TempDir(), "berth-dosim")
	return dir, os.MkdirAll(dir, 0o755)
}

// Image returns the image, made first if the cache has none of the present recipe, which takes one to three minutes. Progress
// goes to log. Several processes may call it: one makes, the others wait.
func Image(ctx context.Context, log io.Writer) (Files, error) {
	if runtime.GOARCH != "amd64" {
		return Files{}, fmt.Errorf("making a Debian image: requires amd64, this is %s", runtime.GOARCH)
	}
	cache, err := Cache()
	if err != nil {
		return Files{}, fmt.Errorf("making a Debian image: %w", err)
	}
	key, err := recipeKey()
	if err != nil {
		return Files{}, err
	}
	dir := filepath.Join(cache, "debian-"+key)
	f := Files{filepath.Join(dir, "root.ext4"), filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd")}
	lock := flock.New(filepath.Join(cache, "lock"))
	if _, err := lock.TryLockContext(ctx, time.Second/4); err != nil {
		return f, fmt.Errorf("waiting for the Debian image: %w", err)
	}
	defer lock.Close()
	if _, err := os.Stat(f.Initrd); err == nil {
		now := time.Now()
		return f, os.Chtimes(dir, now, now) // it is in use
	}
	if err := build(ctx, log, cache, dir); err != nil {
		return f, fmt.Errorf("making a Debian image: %w", err)
	}
	return f, nil
}

// recipeKey is a checksum over all that decides what the image has in it, but for the day's packages.
func recipeKey() (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, layout, diskSize)
	err := fs.WalkDir(recipe, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := recipe.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(b), b)
		return err
	})
	return hex.EncodeToString(h.Sum(nil))[:12], err
}

// build makes the image beside dir and moves it there when it is complete. Images that are not used any more
// are removed.
func build(ctx context.Context, log io.Writer, cache, dir string) error {
	if os.Geteuid() != 0 {
		return errors.New("requires root")
	}
	for _, p := range []string{"mmdebstrap", "mke2fs", "busybox", "unshare"} {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("%w\nhint: test/setup test", err)
		}
	}
	if err := removeOld(cache); err != nil {
		return err
	}
	tmp := filepath.Join(cache, "making")
	defer os.RemoveAll(tmp)
	if err := os.MkdirAll(filepath.Join(tmp, "out"), 0o755); err != nil {
		return err
	}
	if err := os.CopyFS(tmp, recipe); err != nil {
		return err
	}
	fmt.Fprintln(log, "making the Debian image of droplets (once; a few minutes) ...")
	if err := bootstrap(ctx, tmp); err != nil {
		return err
	}
	if err := writeInitrd(filepath.Join(tmp, "initrd"), filepath.Join(tmp, "out")); err != nil {
		return fmt.Errorf("its initial RAM disk: %w", err)
	}
	if err := os.Rename(filepath.Join(tmp, "initrd"), filepath.Join(tmp, "out", "initrd")); err != nil {
		return err
	}
	return os.Rename(filepath.Join(tmp, "out"), dir)
}

// unusedFor is how long an image is kept that nobody asks for. Images of several recipes are in use where several versions of this
// package are.
const unusedFor = 7 * 24 * time.Hour

func removeOld(cache string) error {
	old, err := filepath.Glob(filepath.Join(cache, "debian-*"))
	if err != nil {
		return err
	}
	for _, dir := range old {
		if fi, err := os.Stat(dir); err == nil && time.Since(fi.ModTime()) > unusedFor {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(filepath.Join(cache, "making"))
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
	steps := [][]string{
		{"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "mmdebstrap", "--mode=root", "--variant=minbase", "--quiet", "--dpkgopt=force-unsafe-io",
			"--include=" + strings.Join(strings.Fields(string(packages)), ","),
			`--dpkgopt=path-exclude=/usr/share/man/*`, `--dpkgopt=path-exclude=/usr/share/doc/*`, `--dpkgopt=path-exclude=/usr/share/locale/*`,
			fmt.Sprintf(`--customize-hook=sh '%s/recipe/kernel' "$1" '%s/out'`, tmp, tmp),
			"bookworm", filepath.Join(tmp, "root"), mirror},
		{"sh", filepath.Join(tmp, "recipe/finish"), filepath.Join(tmp, "root"), filepath.Join(tmp, "recipe")},
		// No journal and no spare blocks: the disk is thrown away.
		{"mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-i", "65536", "-E", "lazy_itable_init=1,hash_seed=0b6f1a4e-3c58-4f4e-9c43-6f1dbb3c8f10",
			"-d", filepath.Join(tmp, "root"), filepath.Join(tmp, "out", "root.ext4"), diskSize},
	}
	for _, args := range steps {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
		cmd.WaitDelay = 10 * time.Second
		cmd.Env = append(cmd.Environ(), "TMPDIR="+tmp)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", args[0], err, lastLines(string(out), 20))
		}
	}
	return nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
