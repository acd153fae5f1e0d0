package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// FindEngine finds the berthd to install on a machine of an architecture in Go's name. exe is the path of berth itself; env is
// $BERTHD, which wins. A berthd is named for its architecture ("berthd-linux-arm64") or not at all; the file itself decides.
func FindEngine(arch, exe, env string) (string, error) {
	if env != "" {
		if err := checkEngine(env, arch); err != nil {
			return "", fmt.Errorf("$BERTHD: %w", err)
		}
		return filepath.Abs(env)
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	bin := filepath.Dir(exe)
	var tried []string
	for _, dir := range []string{bin, filepath.Join(bin, "..", "libexec", "berth"), filepath.Join(bin, "..", "libexec")} {
		for _, name := range []string{"berthd-linux-" + arch, "berthd"} {
			path := filepath.Join(dir, name)
			err := checkEngine(path, arch)
			if err == nil {
				return path, nil
			}
			if !errors.Is(err, os.ErrNotExist) {
				tried = append(tried, err.Error())
			}
		}
	}
	why := "there is none beside " + exe + " or in ../libexec"
	if len(tried) > 0 {
		why = strings.Join(tried, "; ")
	}
	return "", &HintError{
		Err:  fmt.Errorf("finding the engine for linux/%s: %s", arch, why),
		Hint: "Put berthd beside berth, or set BERTHD to its path.",
	}
}

// Machine numbers of ELF; the gABI's list of e_machine.
const (
	elfAMD64 = 62
	elfARM64 = 183
)

// checkEngine makes sure that a file is a Linux program for the architecture, as far as its header tells.
func checkEngine(path, arch string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var head [20]byte
	if _, err := io.ReadFull(f, head[:]); err != nil || string(head[:4]) != "\x7fELF" {
		return fmt.Errorf("%s is no Linux program", path)
	}
	var want uint16
	switch arch {
	case "amd64":
		want = elfAMD64
	case "arm64":
		want = elfARM64
	default:
		return fmt.Errorf("berth has no engine for %s", arch)
	}
	if binary.LittleEndian.Uint16(head[18:]) != want {
		return fmt.Errorf("%s is not for %s", path, arch)
	}
	return nil
}
