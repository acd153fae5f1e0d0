package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"github.com/getberth/berth/guest/seed"
)

// cmdline holds the kernel parameters that the guest needs whatever the hypervisor: quiet, since each console line of an emulated
// serial port costs time, and a panic that ends the machine after a moment to write it down. Huge pages are for programs that ask
// for them: given to all, a small guest's few daemons take twice the memory.
const cmdline = "quiet loglevel=4 panic=1 rdinit=/init cgroup_no_v1=all transparent_hugepage=madvise"

func (b *builder) writeManifest() error {
	m := seed.Image{Arch: goarch, Kernel: b.kernel.release, Cmdline: cmdline, Files: map[string]string{}}
	for _, name := range []string{seed.Kernel, seed.Initrd, seed.Root} {
		sum, err := checksum(b.made(name))
		if err != nil {
			return err
		}
		m.Files[name] = sum
	}
	var err error
	if m.BerthdID, err = checksum(b.berthd); err != nil {
		return err
	}
	content, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(b.made(seed.Manifest), append(content, '\n'), 0o644)
}

func checksum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// publish moves the files into place, the manifest last: it tells that the others are whole. A file is replaced by rename, so
// that a VM that has the old one open keeps it.
func (b *builder) publish() error {
	for _, name := range []string{seed.Kernel, seed.Initrd, seed.Root, seed.Manifest} {
		to := filepath.Join(b.out, name)
		if err := copyFile(b.made(name), to+".tmp", 0o644); err != nil {
			return err
		}
		if err := os.Rename(to+".tmp", to); err != nil {
			return err
		}
	}
	return nil
}
