// Command image makes the light VM's guest image: Debian's kernel, a small initial RAM disk, and a read-only root with the engine
// in it. It runs on Debian and Ubuntu with apt, dpkg-deb, depmod, mkfs.erofs, busybox-static, e2fsprogs and ca-certificates.
//
//	go run ./guest/image -berthd bin/berthd -init bin/guest-init -sshd bin/guest-sshd -out bin/guest
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

type options struct {
	berthd string // the engine to put into the root
	init   string // the built command guest/init
	sshd   string // the built command guest/sshd/cmd/sshd
	out    string // folder of the image's files
	cache  string // downloaded packages, kept between runs
}

func main() {
	var o options
	flag.StringVar(&o.berthd, "berthd", "bin/berthd", "the engine to put into the root")
	flag.StringVar(&o.init, "init", "bin/guest-init", "process 1 of the guest")
	flag.StringVar(&o.sshd, "sshd", "bin/guest-sshd", "the SSH server of the guest")
	flag.StringVar(&o.out, "out", "bin/guest", "folder for the image's files")
	flag.StringVar(&o.cache, "cache", defaultCache(), "folder for downloaded packages")
	flag.Parse()
	if err := build(o); err != nil {
		fmt.Fprintln(os.Stderr, "making the guest image:", err)
		os.Exit(1)
	}
}

func defaultCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "berth", "guest")
}

// build leaves out untouched unless everything has been made.
func build(o options) error {
	work, err := os.MkdirTemp("", "berth-guest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	k, err := fetchKernel(o.cache)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	b := builder{options: o, kernel: k, work: work}
	for _, s := range []struct {
		name string
		run  func() error
	}{
		{"kernel", b.writeKernel},
		{"initial RAM disk", b.writeInitrd},
		{"root", b.writeRoot},
		{"manifest", b.writeManifest},
	} {
		if err := s.run(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return b.publish()
}

// builder carries one run's inputs; its files are made in work/out and moved to the out folder at the end.
type builder struct {
	options
	kernel kernel
	work   string
}

// made is the path of one file of the image while it is being made.
func (b *builder) made(name string) string { return filepath.Join(b.work, name) }

const goarch = runtime.GOARCH
