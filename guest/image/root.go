package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/guest/seed"
)

// mountPoints are the folders that the guest's init mounts over, and those that must exist in a read-only root.
var mountPoints = []string{"dev", "proc", "sys", "run", "tmp", "var", "etc", "root", "bin", "mnt", "lib/modules", "usr/bin", "usr/lib/berth", "usr/local", "etc/ssl/certs"}

// links lead from the read-only root to the data disk (/var) or to what is made at boot (/run).
var links = map[string]string{
	"sbin":             "bin",
	"usr/sbin":         "bin",
	"usr/local/bin":    "/var/usr-local-bin",
	"etc/berth":        "/var/etc/berth",
	"etc/resolv.conf":  "/run/resolv.conf",
	"etc/hostname":     "/run/hostname",
	"etc/hosts":        "/run/hosts",
	"etc/mtab":         "/proc/self/mounts",
	"lib64":            "lib",
	"var/run":          "/run",
	"etc/ssl/cert.pem": "certs/ca-certificates.crt",
}

var etcFiles = map[string]string{
	"etc/passwd":        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
	"etc/group":         "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
	"etc/shells":        "/bin/sh\n",
	"etc/nsswitch.conf": "hosts: files dns\n",
	"etc/profile":       "export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\nPS1='\\u@\\h:\\w\\$ '\n",
	"etc/os-release":    "NAME=\"berth guest\"\nID=berth\nPRETTY_NAME=\"berth guest (Debian kernel)\"\nHOME_URL=\"https://github.com/getberth/berth\"\n",
}

// writeRoot lays the tree out and packs it as erofs. lz4 costs an emulated processor next to nothing and halves what is read.
func (b *builder) writeRoot() error {
	root := filepath.Join(b.work, "tree")
	for _, step := range []func(string) error{b.layTree, b.addPrograms, b.addModules} {
		if err := step(root); err != nil {
			return err
		}
	}
	cmd := exec.Command("mkfs.erofs", "-zlz4hc", "-T0", "--all-root", "--quiet", b.made(seed.Root), root)
	if out, err := cmd.CombinedOutput(); err != nil {
		// Old versions know no --quiet.
		cmd = exec.Command("mkfs.erofs", "-zlz4hc", "-T0", "--all-root", b.made(seed.Root), root)
		if out2, err2 := cmd.CombinedOutput(); err2 != nil {
			return fmt.Errorf("mkfs.erofs: %w: %s%s", errors.Join(err, err2), out, out2)
		}
	}
	return nil
}

func (b *builder) layTree(root string) error {
	for _, d := range mountPoints {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	for to, target := range links {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, to)), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, filepath.Join(root, to)); err != nil {
			return err
		}
	}
	for name, content := range etcFiles {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return copyFile("/etc/ssl/certs/ca-certificates.crt", filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"), 0o644)
}

// addPrograms puts in the engine, the SSH server, busybox with its names, and the one tool that busybox has no equal of: mke2fs for ext4.
func (b *builder) addPrograms(root string) error {
	if err := b.addEngine(filepath.Join(root, config.GuestBinary)); err != nil {
		return err
	}
	if err := copyFile(b.sshd, filepath.Join(root, "usr/lib/berth/sshd"), 0o755); err != nil {
		return err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w\nhint: apt-get install busybox-static", err)
	}
	if err := copyFile(busybox, filepath.Join(root, "bin/busybox"), 0o755); err != nil {
		return err
	}
	if err := copyWithLibraries(root, "/sbin/mke2fs", "bin/mke2fs"); err != nil {
		return err
	}
	if err := copyWithLibraries(root, "/sbin/e2fsck", "bin/e2fsck"); err != nil {
		return err
	}
	names, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w", busybox, err)
	}
	for _, n := range strings.Fields(string(names)) {
		// What is there already is better than busybox's.
		if err := os.Symlink("busybox", filepath.Join(root, "bin", n)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// addEngine puts in the engine, and its checksum beside it, so that provisioning need not have an emulated processor make one.
func (b *builder) addEngine(to string) error {
	sum, err := checksum(b.berthd)
	if err != nil {
		return err
	}
	if err := copyFile(b.berthd, to, 0o755); err != nil {
		return err
	}
	return os.WriteFile(to+config.StampSuffix, []byte(sum+"\n"), 0o644)
}

// copyWithLibraries copies a dynamically linked program and the libraries it names, the loader included.
func copyWithLibraries(root, program, to string) error {
	if err := copyFile(program, filepath.Join(root, to), 0o755); err != nil {
		return err
	}
	return copyLibraries(root, program)
}

func copyLibraries(root, file string) error {
	f, err := elf.Open(file)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	if s := f.Section(".interp"); s != nil {
		b, err := s.Data()
		if err != nil {
			return err
		}
		needed = append(needed, filepath.Base(strings.TrimRight(string(b), "\x00")))
	}
	for _, lib := range needed {
		from, err := findLibrary(lib)
		if err != nil {
			return err
		}
		to := filepath.Join(root, "lib", lib)
		if _, err := os.Stat(to); err == nil {
			continue
		}
		if err := copyFile(from, to, 0o755); err != nil {
			return err
		}
		if err := copyLibraries(root, from); err != nil {
			return err
		}
	}
	return nil
}

func findLibrary(name string) (string, error) {
	for _, pattern := range []string{"/lib/*-linux-gnu/", "/usr/lib/*-linux-gnu/", "/lib64/", "/lib/"} {
		if m, _ := filepath.Glob(pattern + name); len(m) > 0 {
			return m[0], nil
		}
	}
	return "", fmt.Errorf("library %s: not found on this system", name)
}

// addModules copies the shipped modules with the indexes that modprobe needs, and the lists that init loads.
func (b *builder) addModules(root string) error {
	x, err := readModules(b.kernel.modules)
	if err != nil {
		return err
	}
	to := filepath.Join(root, "lib/modules", b.kernel.release)
	for _, path := range x.toShip() {
		if err := copyModule(filepath.Join(b.kernel.modules, path), filepath.Join(to, path)); err != nil {
			return err
		}
	}
	for _, name := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		if err := copyFile(filepath.Join(b.kernel.modules, name), filepath.Join(to, name), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if out, err := exec.Command("depmod", "-b", root, b.kernel.release).CombinedOutput(); err != nil {
		return fmt.Errorf("depmod: %w: %s", err, out)
	}
	return x.writeStages(to)
}

func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
