package hostdb

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Locate finds the store's folder: what the flag says, else MACHINE_STORAGE_PATH, else BERTH_HOME, else where the system keeps
// a user's data. The answer is absolute. goos is runtime.GOOS.
func Locate(flag string, getenv func(string) string, goos string) (string, error) {
	for _, dir := range []string{flag, getenv("MACHINE_STORAGE_PATH"), getenv("BERTH_HOME")} {
		if dir != "" {
			return filepath.Abs(dir)
		}
	}
	base, err := dataHome(getenv, goos)
	if err != nil {
		return "", fmt.Errorf("finding where machines are stored: %w", err)
	}
	return filepath.Join(base, "berth"), nil
}

func dataHome(getenv func(string) string, goos string) (string, error) {
	if goos == "windows" {
		if dir := getenv("LOCALAPPDATA"); dir != "" {
			return dir, nil
		}
		return "", errors.New("LOCALAPPDATA is not set")
	}
	// The XDG base directory specification: a relative path is invalid and to be ignored.
	if dir := getenv("XDG_DATA_HOME"); goos != "darwin" && filepath.IsAbs(dir) {
		return dir, nil
	}
	home := getenv("HOME")
	if home == "" {
		return "", errors.New("HOME is not set")
	}
	if goos == "darwin" {
		return filepath.Join(home, "Library", "Application Support"), nil
	}
	return filepath.Join(home, ".local", "share"), nil
}
