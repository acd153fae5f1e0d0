//go:build linux

// Package rootfs makes what test machines boot from, and keeps it in the user's cache. Each thing is keyed by what it is made of,
// and made anew where there is none.
package rootfs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// Cache is the folder of a kind of things, made if need be. A cache that cannot be is replaced by a folder for temporary files.
func Cache(kind string) (string, error) {
	dir, err := os.UserCacheDir()
	if err == nil {
		dir = filepath.Join(dir, "berth", kind)
		if err = os.MkdirAll(dir, 0o755); err == nil {
			return dir, nil
		}
	}
	dir = filepath.Join(os.TempDir(), "berth-"+kind)
	return dir, os.MkdirAll(dir, 0o755)
}

// Key is a checksum over the files of a recipe and over whatever else decides what comes out.
func Key(recipe fs.FS, others ...any) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, others...)
	err := fs.WalkDir(recipe, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(recipe, path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(b), b)
		return err
	})
	return hex.EncodeToString(h.Sum(nil))[:12], err
}

// unusedFor is how long something is kept that nobody asks for. Things of several recipes are in use where several versions of a
// recipe are.
const unusedFor = 7 * 24 * time.Hour

// Keep returns the folder of a thing, which make fills if there is none. What has not been used for a week is removed then. Several
// processes may call it for one thing: one makes, the others wait. A folder is there whole or not at all; tmp, in which it is made
// as "out" and which is removed afterwards, is where make can put whatever it needs meanwhile.
func Keep(ctx context.Context, cache, name, key string, make func(tmp string) error) (string, error) {
	dir := filepath.Join(cache, name+"-"+key)
	lock := flock.New(filepath.Join(cache, name+".lock"))
	if _, err := lock.TryLockContext(ctx, time.Second/4); err != nil {
		return dir, fmt.Errorf("waiting for who makes %s: %w", dir, err)
	}
	defer lock.Close()
	if _, err := os.Stat(dir); err == nil {
		now := time.Now()
		return dir, os.Chtimes(dir, now, now) // it is in use
	}
	if err := removeOld(cache, name); err != nil {
		return dir, err
	}
	tmp := making(cache, name)
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "out")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return dir, err
	}
	if err := make(tmp); err != nil {
		return dir, err
	}
	return dir, os.Rename(out, dir)
}

func removeOld(cache, name string) error {
	old, err := filepath.Glob(filepath.Join(cache, name+"-*"))
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
	return os.RemoveAll(making(cache, name))
}

func making(cache, name string) string { return filepath.Join(cache, "making."+name) }

// Run runs commands one after the other, with tmp as their folder for temporary files. They end with this process. change, which may
// be nil, changes how one is started.
func Run(ctx context.Context, tmp string, change func(*exec.Cmd), commands ...[]string) error {
	for _, args := range commands {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
		cmd.WaitDelay = 10 * time.Second
		cmd.Env = append(cmd.Environ(), "TMPDIR="+tmp)
		if change != nil {
			change(cmd)
		}
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

// Small are mmdebstrap's options for a tree without what only people read.
func Small() []string {
	return []string{"--quiet", "--dpkgopt=force-unsafe-io",
		"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*"}
}

// Disk is a command that packs a tree as a root file system: ext4 with a small journal, for machines whose power is cut, and without
// blocks for root only. The file is sparse.
func Disk(root, file, size string) []string {
	return []string{"mke2fs", "-q", "-t", "ext4", "-J", "size=16", "-m", "0", "-i", "65536",
		"-E", "lazy_itable_init=1,hash_seed=0b6f1a4e-3c58-4f4e-9c43-6f1dbb3c8f10", "-d", root, file, size}
}
