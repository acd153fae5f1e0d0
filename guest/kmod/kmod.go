//go:build linux

// Package kmod loads kernel modules from a list that was put in load order when the guest image was made, so that nothing has to
// be resolved at boot.
package kmod

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// List reads the file of module paths, one a line, relative to the folder of the file.
func List(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var paths []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if line := strings.TrimSpace(s.Text()); line != "" {
			paths = append(paths, filepath.Join(filepath.Dir(file), line))
		}
	}
	return paths, nil
}

// Load loads the modules in order. One that is loaded already, or that the kernel has built in, is no error; the others'
// errors are joined, since a guest that lacks one module is still of use.
func Load(paths []string) error {
	var errs []error
	for _, p := range paths {
		if err := load(p); err != nil {
			errs = append(errs, fmt.Errorf("loading module %s: %w", filepath.Base(p), err))
		}
	}
	return errors.Join(errs...)
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}
