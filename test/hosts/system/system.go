//go:build linux

// Package system makes hosts as their owners have them, of several distributions, and boots them in QEMU: real kernels, real init
// systems, real SSH servers. Images are made once, by root, and kept in the user's cache. A host is reached at an address of the
// loopback network and reaches nothing itself: what it needs, berth has to bring.
package system

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/getberth/berth/test/rootfs"
)

//go:embed all:recipe
var recipe embed.FS

// layout is part of the images' keys: raise it when this package makes the same recipes into something else.
const layout = "1"

// diskSize is the size of a root file system. The file is sparse.
const diskSize = "4G"

// System is what a host runs.
type System struct {
	Name string // of its folder in recipe
	Arch string // GOARCH
	User string // whom the SSH server lets in with the key of the boot
	Root string // a command that makes the user root; empty when it is

	suite, mirror string
	unpacked      bool   // packages are unpacked only, not installed
	kernel        string // the package that depends on the kernel
	keyring       *deb   // holds the keys of the mirror; nil when this computer has them
}

// deb is a package of which the content is known.
type deb struct{ url, sha256, file string }

// Systems lists what there is.
func Systems() []System {
	debian := System{Arch: "amd64", User: "root", suite: "bookworm", mirror: "http://deb.debian.org/debian", kernel: "linux-image-cloud-amd64"}
	if m := os.Getenv("BERTH_DEBIAN_MIRROR"); m != "" {
		debian.mirror = m
	}
	ubuntu := System{Name: "ubuntu", Arch: "amd64", User: "ubuntu", Root: "sudo -n", suite: "noble", mirror: "http://archive.ubuntu.com/ubuntu",
		kernel: "linux-image-virtual", keyring: &deb{"/pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb",
			"36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8", "usr/share/keyrings/ubuntu-archive-keyring.gpg"}}
	if m := os.Getenv("BERTH_UBUNTU_MIRROR"); m != "" {
		ubuntu.mirror = m
	}
	openrc, busybox, arm64 := debian, debian, debian
	openrc.Name, openrc.User, openrc.Root = "openrc", "debian", "doas -n"
	busybox.Name, busybox.unpacked = "busybox", true
	arm64.Name, arm64.Arch, arm64.kernel = "arm64", "arm64", "linux-image-cloud-arm64"
	return []System{ubuntu, openrc, busybox, arm64}
}

// Files are what a host boots from.
type Files struct {
	Disk    string // raw ext4, to be mounted as /dev/vda; never to be written: put an overlay on it
	Kernel  string
	Initrd  string
	Busybox string // a static busybox for the host's processor
}

// Image returns a system's image, made first if the cache has none of the present recipe, which takes minutes.
func (s System) Image(ctx context.Context, log io.Writer) (Files, error) {
	f, err := s.image(ctx, log)
	if err != nil {
		return f, fmt.Errorf("making the image of a host with %s: %w", s.Name, err)
	}
	return f, nil
}

func (s System) image(ctx context.Context, log io.Writer) (Files, error) {
	if runtime.GOARCH != "amd64" {
		return Files{}, fmt.Errorf("requires amd64, this is %s", runtime.GOARCH)
	}
	cache, err := rootfs.Cache("hosts")
	if err != nil {
		return Files{}, err
	}
	key, err := s.key()
	if err != nil {
		return Files{}, err
	}
	dir, err := rootfs.Keep(ctx, cache, s.Name, key, func(tmp string) error {
		if os.Geteuid() != 0 {
			return errors.New("requires root")
		}
		fmt.Fprintf(log, "making the image of a host with %s (once; a few minutes) ...\n", s.Name)
		return s.build(ctx, tmp)
	})
	in := func(name string) string { return filepath.Join(dir, name) }
	return Files{in("root.ext4"), in("vmlinuz"), in("initrd"), in("busybox")}, err
}

// key is a checksum over what the image is made of, but for the day's packages.
func (s System) key() (string, error) {
	var parts []string
	for _, f := range []string{"kernel", "init", s.Name} {
		sub, err := rootfs.Key(only{recipe, "recipe/" + f})
		if err != nil {
			return "", err
		}
		parts = append(parts, sub)
	}
	return rootfs.Key(only{recipe, "recipe/kernel"}, layout, diskSize, strings.Join(parts, " "), s.suite, s.unpacked, s.kernel)
}
