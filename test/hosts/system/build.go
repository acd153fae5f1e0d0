//go:build linux

package system

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/test/rootfs"
)

// only is a file or folder of the recipes, as a tree of its own.
type only struct {
	embed.FS
	path string
}

// Open implements fs.FS.
func (o only) Open(name string) (fs.File, error) {
	if name == "." {
		return o.FS.Open(o.path)
	}
	return o.FS.Open(o.path + "/" + name)
}

// ReadDir and ReadFile keep the embedded tree's own from being used, which know nothing of path.
func (o only) ReadDir(name string) ([]fs.DirEntry, error) { return o.FS.ReadDir(o.at(name)) }
func (o only) ReadFile(name string) ([]byte, error)       { return o.FS.ReadFile(o.at(name)) }

func (o only) at(name string) string {
	if name == "." {
		return o.path
	}
	return o.path + "/" + name
}

// build makes the image in the folder "out" of tmp.
func (s System) build(ctx context.Context, tmp string) error {
	for _, p := range []string{"mmdebstrap", "mke2fs", "busybox", "dpkg-deb", "depmod"} {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("%w\nhint: test/setup hosts", err)
		}
	}
	if err := os.CopyFS(tmp, recipe); err != nil {
		return err
	}
	root, out := filepath.Join(tmp, "root"), filepath.Join(tmp, "out")
	if err := s.bootstrap(ctx, tmp, root); err != nil {
		return err
	}
	finish := []string{"sh", filepath.Join(tmp, "recipe", s.Name, "finish"), root, filepath.Join(tmp, "recipe", s.Name)}
	if err := rootfs.Run(ctx, tmp, nil, finish, []string{"cp", filepath.Join(root, "bin/busybox"), out}); err != nil {
		return err
	}
	init, err := recipe.ReadFile("recipe/init")
	if err != nil {
		return err
	}
	if err := rootfs.WriteInitrd(filepath.Join(tmp, "initrd"), filepath.Join(out, "busybox"), init, out); err != nil {
		return fmt.Errorf("its initial RAM disk: %w", err)
	}
	return rootfs.Run(ctx, tmp, nil, rootfs.Disk(root, filepath.Join(out, "root.ext4"), diskSize), []string{"mv", filepath.Join(tmp, "initrd"), out})
}

// bootstrap has mmdebstrap make the root's tree, in namespaces of its own: however it ends, nothing that it started or mounted
// outlives it.
func (s System) bootstrap(ctx context.Context, tmp, root string) error {
	packages, err := recipe.ReadFile("recipe/" + s.Name + "/packages")
	if err != nil {
		return err
	}
	variant, hook := "minbase", "customize"
	if s.unpacked {
		variant, hook = "extract", "extract" // the last one that is run
	}
	args := []string{"mmdebstrap", "--mode=root", "--variant=" + variant, "--architectures=" + s.Arch, "--components=main",
		"--include=" + strings.Join(strings.Fields(string(packages)), ","),
		fmt.Sprintf(`--%s-hook=sh '%s/recipe/kernel' "$1" '%s/out' %s`, hook, tmp, tmp, s.kernel)}
	args = append(args, rootfs.Small()...)
	if s.keyring != nil {
		keys, err := s.keyring.fetch(ctx, s.mirror, tmp)
		if err != nil {
			return err
		}
		args = append(args, "--keyring="+keys)
	}
	args = append(args, s.suite, root, s.mirror)
	if s.Arch == runtimeArch {
		return rootfs.Run(ctx, tmp, nil, slices.Concat([]string{"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"}, args))
	}
	return s.emulated(ctx, tmp, args)
}

const runtimeArch = "amd64"

// emulated runs a command that runs programs for another processor. Since Linux 6.7 a user namespace has interpreters of its own, so
// that nothing is registered on this computer. The namespace maps every user to itself.
func (s System) emulated(ctx context.Context, tmp string, args []string) error {
	emulator, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		return fmt.Errorf("%w\nhint: test/setup hosts", err)
	}
	all := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	setUp := fmt.Sprintf(`mount -t proc proc /proc && mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && printf '%%s' '%s' >/proc/sys/fs/binfmt_misc/register && exec "$@"`,
		interpreter(emulator))
	return rootfs.Run(ctx, tmp, func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = all, all
		cmd.SysProcAttr.GidMappingsEnableSetgroups = true
	}, append([]string{"sh", "-c", setUp, "sh"}, args...))
}

// interpreter is a line for binfmt_misc: ELF programs for arm64 are run by the emulator, which is opened now (F), since it is not
// there in the root of the programs. Source: Documentation/admin-guide/binfmt-misc.rst of Linux; the numbers are those of the ELF header.
func interpreter(emulator string) string {
	const magic = `\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00`
	const mask = `\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff`
	return ":arm64:M::" + magic + ":" + mask + ":" + emulator + ":F"
}

// fetch downloads the package and returns the path of its file.
func (d *deb) fetch(ctx context.Context, mirror, tmp string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, mirror+d.url, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("%s: %w", req.URL, err)
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != d.sha256 {
		return "", fmt.Errorf("%s: %s, and %d bytes that are not the package which is known", req.URL, res.Status, len(body))
	}
	file, dir := filepath.Join(tmp, "keyring.deb"), filepath.Join(tmp, "keyring")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		return "", err
	}
	return filepath.Join(dir, d.file), rootfs.Run(ctx, tmp, nil, []string{"dpkg-deb", "-x", file, dir})
}
