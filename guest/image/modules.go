package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// initrdModules are needed to mount the root.
var initrdModules = []string{"virtio_pci", "virtio_blk", "erofs"}

// stages are the modules that the guest's init loads, in the order of the stages: what the boot waits for, what the engine needs, and what can
// wait until nobody waits for anything, such as the first container's. The kernel loads the latter by itself if they are needed before.
var stages = []struct {
	name    string
	modules []string
}{
	{"boot", []string{"virtio_net", "virtio_console"}},
	{"engine", []string{"overlay", "bridge", "nf_tables", "nft_chain_nat", "nft_ct", "nft_masq", "nft_nat", "nft_fib_inet"}},
	{"idle", []string{"veth", "virtio-rng", "button", "evdev", "nft_reject_inet", "nf_conntrack_netlink"}},
}

// writeStages writes a list for each stage into dir. What the initial RAM disk or an earlier stage has loaded is left out.
func (x moduleIndex) writeStages(dir string) error {
	before := initrdModules
	for _, s := range stages {
		loaded := x.inOrder(before)
		before = append(slices.Clone(before), s.modules...)
		order := x.inOrder(before)[len(loaded):]
		if err := os.WriteFile(filepath.Join(dir, s.name), []byte(strings.Join(order, "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// shipped are the modules that the kernel may load by itself later (by modprobe), as path patterns below kernel/.
var shipped = []string{
	"net/netfilter/*", "net/netfilter/ipvs/*", "net/netfilter/ipset/*", "net/bridge/*", "net/bridge/netfilter/*", "net/ipv4/*", "net/ipv4/netfilter/*", "net/ipv6/*",
	"net/ipv6/netfilter/*", "net/xfrm/*", "net/8021q/*", "net/802/*", "net/llc/*", "net/sched/*", "drivers/net/veth*", "drivers/net/vxlan/*",
	"drivers/net/macvlan*", "drivers/net/macvtap*", "drivers/net/ipvlan/*", "drivers/net/dummy*", "drivers/net/tun*", "drivers/net/tap*", "drivers/net/ifb*",
	"drivers/net/wireguard/*", "drivers/block/loop*", "fs/fuse/*", "fs/overlayfs/*", "fs/nfs/*", "fs/nfs_common/*", "fs/lockd/*", "net/sunrpc/*", "fs/binfmt_misc*",
	"fs/squashfs/*", "fs/isofs/*", "lib/*", "crypto/*",
}

// moduleIndex is modules.dep: each module's path with those it needs, already in an order fit for unloading.
type moduleIndex struct {
	byName map[string]string   // canonical name → path below the release's folder
	needs  map[string][]string // path → paths
}

func readModules(dir string) (moduleIndex, error) {
	f, err := os.Open(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return moduleIndex{}, err
	}
	defer f.Close()
	x := moduleIndex{byName: map[string]string{}, needs: map[string][]string{}}
	for s := bufio.NewScanner(f); s.Scan(); {
		path, deps, _ := strings.Cut(s.Text(), ":")
		x.byName[moduleName(path)] = path
		x.needs[path] = strings.Fields(deps)
	}
	return x, nil
}

// moduleName is a module's name as the kernel spells it: dashes are underscores.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// inOrder lists the paths of the named modules and all they need, each after what it needs. What the kernel has built in is left out.
func (x moduleIndex) inOrder(names []string) []string {
	var order []string
	seen := map[string]bool{}
	var add func(path string)
	add = func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		for _, dep := range x.needs[path] {
			add(dep)
		}
		order = append(order, path)
	}
	for _, n := range names {
		if path, ok := x.byName[moduleName(n)]; ok {
			add(path)
		}
	}
	return order
}

// toShip lists the paths of all modules that go into the root.
func (x moduleIndex) toShip() []string {
	var names []string
	for name, path := range x.byName {
		for _, pattern := range shipped {
			if ok, _ := filepath.Match("kernel/"+pattern, path); ok {
				names = append(names, name)
				break
			}
		}
	}
	for _, s := range stages {
		names = append(names, s.modules...)
	}
	return x.inOrder(names)
}

// copyModule copies a module without its signature: the image is as trusted as a signed one, and checking an RSA signature for
// each module is slow where the processor is emulated.
func copyModule(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, unsigned(b), 0o644)
}

// signatureMagic ends a signed module; before it come 12 bytes of which the last four are the signature's length, big-endian.
// Source: linux/kernel/module_signature.c and include/linux/module_signature.h.
const signatureMagic = "~Module signature appended~\n"

func unsigned(b []byte) []byte {
	body, signed := bytes.CutSuffix(b, []byte(signatureMagic))
	if !signed || len(body) < 12 {
		return b
	}
	tail := body[len(body)-4:]
	n := int(tail[0])<<24 | int(tail[1])<<16 | int(tail[2])<<8 | int(tail[3])
	if n > len(body)-12 {
		return b
	}
	return body[:len(body)-12-n]
}

// plainModules unpacks compressed modules, so that they can be loaded without a decompressor in the initial RAM disk.
func plainModules(dir string) error {
	tools := map[string]string{".xz": "xz", ".zst": "zstd", ".gz": "gzip"}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("the kernel package holds no modules: %w", err)
			}
			return err
		}
		tool, packed := tools[filepath.Ext(path)]
		if d.IsDir() || !packed {
			return nil
		}
		cmd := exec.Command(tool, "-dc", path)
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("unpacking %s: %w", path, err)
		}
		if err := os.WriteFile(strings.TrimSuffix(path, filepath.Ext(path)), out, 0o644); err != nil {
			return err
		}
		return os.Remove(path)
	})
}
