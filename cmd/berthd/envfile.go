//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/getberth/berth/engine/config"
)

// setEnvironment sets the variables in a file of NAME=VALUE lines, such as proxies. The engine reads it itself, so that it is the
// same whatever starts the engine, and needs no quoting. No file is no variables.
func setEnvironment(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the engine's environment: %w", err)
	}
	if len(data) > config.MaxSize {
		return fmt.Errorf("the engine's environment: %s is longer than %d bytes", path, config.MaxSize)
	}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" || text[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return fmt.Errorf("the engine's environment: line %d of %s is not NAME=VALUE", n, path)
		}
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("the engine's environment: line %d of %s: %w", n, path, err)
		}
	}
	return nil
}
