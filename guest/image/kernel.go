package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// kernel is an unpacked kernel package.
type kernel struct {
	release string // e.g. 6.1.0-49-cloud-amd64
	image   string // path of vmlinuz
	modules string // path of lib/modules/<release>, with modules.dep and modules.alias
}

// metaPackages name the kernels that will do, the best first: Debian's is made for VMs, Ubuntu's nearest is "virtual".
var metaPackages = []string{"linux-image-cloud-" + goarch, "linux-image-virtual", "linux-image-generic", "linux-image-" + goarch}

var imagePackage = regexp.MustCompile(`linux-image-(?:unsigned-)?([0-9][0-9a-z.+-]*)`)

// fetchKernel downloads and unpacks the newest kernel package, or takes the cached one of the same version.
func fetchKernel(cache string) (kernel, error) {
	release, err := kernelRelease()
	if err != nil {
		return newestCached(cache, err)
	}
	dir := filepath.Join(cache, release)
	if k, err := unpacked(dir, release); err == nil {
		return k, nil
	}
	tmp := dir + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return kernel{}, err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return kernel{}, err
	}
	// Ubuntu keeps the modules in packages of their own.
	for _, p := range []string{"linux-image-" + release, "linux-modules-" + release, "linux-modules-extra-" + release} {
		if err := fetchPackage(tmp, p); err != nil && p == "linux-image-"+release {
			return kernel{}, err
		}
	}
	if err := plainModules(filepath.Join(tmp, "lib/modules", release)); err != nil {
		return kernel{}, err
	}
	if out, err := exec.Command("depmod", "-b", tmp, release).CombinedOutput(); err != nil {
		return kernel{}, fmt.Errorf("depmod: %w: %s", err, out)
	}
	if err := os.RemoveAll(dir); err != nil {
		return kernel{}, err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return kernel{}, err
	}
	return unpacked(dir, release)
}

// kernelRelease asks apt which kernel the distribution's meta package stands for.
func kernelRelease() (string, error) {
	var errs []error
	for _, meta := range metaPackages {
		out, err := exec.Command("apt-cache", "depends", "--important", meta).Output()
		if m := imagePackage.FindSubmatch(dependencies(out)); err == nil && m != nil {
			return string(m[1]), nil
		}
		errs = append(errs, fmt.Errorf("%s: not known to apt", meta))
	}
	return "", fmt.Errorf("finding a kernel package: %w\nhint: run `apt-get update` first", errors.Join(errs...))
}

func dependencies(out []byte) []byte {
	var deps [][]byte
	for _, line := range bytes.Split(out, []byte("\n")) {
		if bytes.Contains(line, []byte("Depends:")) {
			deps = append(deps, line)
		}
	}
	return bytes.Join(deps, []byte("\n"))
}

// newestCached serves builds without a network or package lists.
func newestCached(cache string, cause error) (kernel, error) {
	dirs, _ := filepath.Glob(filepath.Join(cache, "*", "lib/modules/*/modules.dep"))
	for i := len(dirs) - 1; i >= 0; i-- {
		release := filepath.Base(filepath.Dir(dirs[i]))
		if k, err := unpacked(filepath.Join(cache, release), release); err == nil {
			return k, nil
		}
	}
	return kernel{}, cause
}

func unpacked(dir, release string) (kernel, error) {
	k := kernel{
		release: release,
		image:   filepath.Join(dir, "boot/vmlinuz-"+release),
		modules: filepath.Join(dir, "lib/modules", release),
	}
	for _, p := range []string{k.image, filepath.Join(k.modules, "modules.dep")} {
		if _, err := os.Stat(p); err != nil {
			return kernel{}, err
		}
	}
	return k, nil
}

// fetchPackage downloads one package and unpacks it into dir.
func fetchPackage(dir, name string) error {
	cmd := exec.Command("apt-get", "download", "-qq", name)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("downloading package %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	debs, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("downloading package %s: got %d files", name, len(debs))
	}
	if out, err := exec.Command("dpkg-deb", "-x", debs[0], dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unpacking package %s: %w: %s", name, err, out)
	}
	// With a merged /usr the modules may be below it.
	if _, err := os.Stat(filepath.Join(dir, "lib/modules")); os.IsNotExist(err) {
		_ = os.Symlink("usr/lib", filepath.Join(dir, "lib"))
	}
	return os.Remove(debs[0])
}
