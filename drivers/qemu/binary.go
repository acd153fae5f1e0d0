package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Oldest QEMU that has what we use: -netdev stream and JSON for all of -device, -blockdev and -netdev.
const (
	minMajor = 7
	minMinor = 2
)

// targets are QEMU's names of guest architectures.
var targets = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// findBinary returns the path of the QEMU to use for a guest architecture.
func (h host) findBinary(asked, guestArch string) (string, error) {
	target, ok := targets[guestArch]
	if !ok {
		return "", fmt.Errorf("the guest image is for %s, which berth does not know", guestArch)
	}
	name := "qemu-system-" + target
	if asked != "" {
		p, err := exec.LookPath(asked)
		if err != nil {
			return "", fmt.Errorf("--qemu-binary: %w", err)
		}
		return filepath.Abs(p)
	}
	p, err := exec.LookPath(name)
	if err == nil {
		return filepath.Abs(p)
	}
	for _, dir := range usualDirs(h.goos) {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	if errors.Is(err, fs.ErrPermission) {
		return "", fmt.Errorf("QEMU: %w", err)
	}
	return "", fmt.Errorf("%s is not installed\nhint: %s, or name it with --qemu-binary", name, h.howToInstall(guestArch))
}

// usualDirs are where QEMU is on systems whose installers leave PATH alone.
func usualDirs(goos string) []string {
	switch goos {
	case "windows":
		return []string{`C:\Program Files\qemu`, `C:\msys64\ucrt64\bin`}
	case "darwin":
		return []string{"/opt/homebrew/bin", "/usr/local/bin", "/opt/local/bin"}
	}
	return nil
}

func (h host) howToInstall(guestArch string) string {
	debian, fedora := "qemu-system-x86", "qemu-system-x86-core"
	if guestArch == "arm64" {
		debian, fedora = "qemu-system-arm", "qemu-system-aarch64-core"
	}
	switch h.goos {
	case "darwin":
		return "`brew install qemu`"
	case "windows":
		return "`winget install SoftwareFreedomConservancy.QEMU`"
	}
	b, _ := os.ReadFile("/etc/os-release")
	switch like := distribution(string(b)); {
	case strings.Contains(like, "debian"):
		return "`sudo apt install " + debian + "`"
	case strings.Contains(like, "fedora"), strings.Contains(like, "rhel"):
		return "`sudo dnf install " + fedora + "`"
	case strings.Contains(like, "suse"):
		return "`sudo zypper install " + debian + "`"
	case strings.Contains(like, "arch"):
		return "`sudo pacman -S qemu-system-" + targets[guestArch] + "`"
	case strings.Contains(like, "alpine"):
		return "`sudo apk add qemu-system-" + targets[guestArch] + "`"
	}
	return "install the package with QEMU's " + targets[guestArch] + " system emulator (" + debian + " on Debian)"
}

// distribution returns the ID and ID_LIKE of an os-release(5) file.
func distribution(osRelease string) string {
	var l []string
	for line := range strings.Lines(osRelease) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		if k == "ID" || k == "ID_LIKE" {
			l = append(l, strings.Trim(v, `"'`))
		}
	}
	return strings.Join(l, " ")
}

// version is a release of QEMU.
type version struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
}

func (v version) before(major, minor int) bool {
	return v.Major < major || v.Major == major && v.Minor < minor
}

// release is a QEMU program: its version, and what tells it from one that takes its place.
type release struct {
	Version version `json:"version"`
	File    stamp   `json:"file"`
}

// identify finds out what a QEMU program is. Only one that is not the known one is run for that, which takes as long as a tenth of a
// boot does.
func (d *Driver) identify(ctx context.Context, path string, known release) (release, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return release{}, err
	}
	now := stamp{fi.Size(), fi.ModTime().UnixNano()}
	for _, r := range []release{known, d.found(path)} {
		if r.File == now {
			return r, nil
		}
	}
	v, err := readVersion(ctx, path)
	if err != nil {
		return release{}, err
	}
	r := release{v, now}
	d.releases.Store(path, r)
	return r, nil
}

// found is what this process has found out of a QEMU program.
func (d *Driver) found(path string) release {
	r, _ := d.releases.Load(path)
	known, _ := r.(release)
	return known
}

// checkVersion sees that a QEMU runs and is new enough.
func (d *Driver) checkVersion(ctx context.Context, path string) error {
	r, err := d.identify(ctx, path, release{})
	if err != nil {
		return err
	}
	v := r.Version
	if v.before(minMajor, minMinor) {
		return fmt.Errorf("%s is version %d.%d: berth requires QEMU >= %d.%d, which has -netdev stream", path, v.Major, v.Minor, minMajor, minMinor)
	}
	return nil
}

// readVersion asks a QEMU for its version.
func readVersion(ctx context.Context, path string) (version, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = time.Second
	out := &head{limit: 4096}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return version{}, fmt.Errorf("running %s --version: %w%s", path, err, quoted(out.String()))
	}
	versionLine := regexp.MustCompile(`^QEMU emulator version (\d{1,4})\.(\d{1,4})`)
	m := versionLine.FindStringSubmatch(out.String())
	if m == nil {
		return version{}, fmt.Errorf("%s is not QEMU: its --version is not QEMU's%s", path, quoted(out.String()))
	}
	var v version
	v.Major, _ = strconv.Atoi(m[1]) // versionLine bounds them
	v.Minor, _ = strconv.Atoi(m[2])
	return v, nil
}

// quoted is a program's output for an error: one printable line, or nothing.
func quoted(out string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	if line == "" {
		return ""
	}
	return fmt.Sprintf(" (it says %q)", line)
}

// head keeps the first bytes written to it.
type head struct {
	bytes.Buffer
	limit int
}

// Write never fails, so that a program is not cut off for talking too much.
func (h *head) Write(b []byte) (int, error) {
	if room := h.limit - h.Len(); room > 0 {
		h.Buffer.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}
