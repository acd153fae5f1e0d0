//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing/fstest"

	"github.com/getberth/berth/test/dosim/debian"
	"github.com/getberth/berth/test/rootfs"
)

// packagesFor returns a folder that apt can install a package from, on a machine whose dpkg has this status file: the packages that
// are missing there and an index of them. They are downloaded once, and kept in the cache.
func packagesFor(ctx context.Context, status, name string) (string, error) {
	cache, err := rootfs.Cache("bench")
	if err != nil {
		return "", err
	}
	key, err := rootfs.Key(fstest.MapFS{"status": {Data: []byte(status)}}, name, "with what it recommends")
	if err != nil {
		return "", err
	}
	dir, err := rootfs.Keep(ctx, cache, name, key, func(tmp string) error {
		progress("downloading %s and what it needs (once)", name)
		if err := download(ctx, tmp, status, name); err != nil {
			return err
		}
		return index(ctx, filepath.Join(tmp, "out"))
	})
	if err != nil {
		return "", fmt.Errorf("packages of %s: %w", name, err)
	}
	return dir, nil
}

// download has apt find out and fetch what is missing, with lists and settings of its own.
func download(ctx context.Context, tmp, status, name string) error {
	mirror := os.Getenv("BERTH_DEBIAN_MIRROR")
	if mirror == "" {
		mirror = debian.Mirror
	}
	sources := "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " + mirror + " bookworm main\n"
	for file, content := range map[string]string{"status": status, "sources.list": sources} {
		if err := os.WriteFile(filepath.Join(tmp, file), []byte(content), 0o600); err != nil {
			return err
		}
	}
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "none"} {
		if err := os.MkdirAll(filepath.Join(tmp, d), 0o755); err != nil {
			return err
		}
	}
	apt := []string{"apt-get", "-qq"}
	for option, value := range map[string]string{"Dir::State": "state", "Dir::State::status": "status", "Dir::Cache": "cache",
		"Dir::Etc::SourceList": "sources.list", "Dir::Etc::SourceParts": "none", "Dir::Etc::PreferencesParts": "none"} {
		apt = append(apt, "-o", option+"="+filepath.Join(tmp, value))
	}
	apt = append(apt, "-o", "APT::Sandbox::User=root", "-o", "APT::Architecture=amd64")
	return rootfs.Run(ctx, tmp, nil, append(apt[:len(apt):len(apt)], "update"),
		append(apt[:len(apt):len(apt)], "install", "-y", "--download-only", name),
		[]string{"sh", "-c", `mv "$1"/cache/archives/*.deb "$1/out/"`, "sh", tmp})
}

// index writes the list of packages in a folder, as apt reads it.
func index(ctx context.Context, dir string) error {
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	if len(debs) == 0 {
		return errors.New("there are none")
	}
	var list []byte
	for _, path := range debs {
		control, err := exec.CommandContext(ctx, "dpkg-deb", "-f", path).Output()
		if err != nil {
			return fmt.Errorf("dpkg-deb -f %s: %w", path, err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		list = fmt.Appendf(list, "%sFilename: ./%s\nSize: %d\nSHA256: %s\n\n", control, filepath.Base(path), len(content), hex.EncodeToString(sum[:]))
	}
	return os.WriteFile(filepath.Join(dir, "Packages"), list, 0o644)
}
