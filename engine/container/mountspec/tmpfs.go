package mountspec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/mount"
)

// tmpfsFlags maps each flag to its group; within a group the last one wins.
func tmpfsFlag(option string) (group string, ok bool) {
	switch option {
	case "ro", "rw":
		return "access", true
	case "exec", "noexec", "suid", "nosuid", "dev", "nodev", "diratime", "nodiratime":
		return strings.TrimPrefix(option, "no"), true
	case "sync", "async":
		return "sync", true
	case "atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime":
		return "atime", true
	}
	if propagation(option) {
		return "propagation", true
	}
	return "", false
}

// ParseTmpfs reads the options of --tmpfs DESTINATION:OPTIONS.
func ParseTmpfs(dest, options string) (Point, error) {
	clean, err := cleanDestination(dest)
	if err != nil {
		return Point{}, fmt.Errorf("invalid tmpfs mount: %w", err)
	}
	merged, err := mergeTmpfs(strings.Split(options, ","))
	if err != nil {
		return Point{}, fmt.Errorf("invalid tmpfs mount at %s: %w", clean, err)
	}
	return Point{Type: mount.TypeTmpfs, Destination: clean, Mode: options, Options: merged, ReadOnly: contains(merged, "ro")}, nil
}

// mergeTmpfs puts Docker's defaults first and lets what comes later win.
func mergeTmpfs(options []string) ([]string, error) {
	var order []string
	chosen := map[string]string{}
	set := func(group, option string) {
		if _, known := chosen[group]; !known {
			order = append(order, group)
		}
		chosen[group] = option
	}
	for _, flag := range []string{"noexec", "nosuid", "nodev"} {
		set(strings.TrimPrefix(flag, "no"), flag)
	}
	set("propagation", string(mount.PropagationRPrivate))
	for _, option := range options {
		if option == "" || option == "defaults" {
			continue
		}
		group, err := tmpfsGroup(option)
		if err != nil {
			return nil, err
		}
		set(group, option)
	}
	merged := make([]string, 0, len(order))
	for _, group := range order {
		merged = append(merged, chosen[group])
	}
	return merged, nil
}

func tmpfsGroup(option string) (string, error) {
	if group, ok := tmpfsFlag(option); ok {
		return group, nil
	}
	key, value, _ := strings.Cut(option, "=")
	if err := checkTmpfsValue(key, value); err != nil {
		return "", fmt.Errorf("invalid tmpfs option %q: %w", option, err)
	}
	return key + "=", nil
}

func checkTmpfsValue(key, value string) error {
	switch key {
	case "size", "nr_blocks", "nr_inodes":
		return checkSize(value)
	case "mode":
		_, err := strconv.ParseUint(value, 8, 12)
		return err
	case "uid", "gid":
		_, err := strconv.ParseUint(value, 10, 32)
		return err
	case "mpol", "huge":
		if value == "" || strings.ContainsAny(value, " \t\n\x00") {
			return fmt.Errorf("a value is missing")
		}
		return nil
	}
	return fmt.Errorf("it is not known")
}

// checkSize accepts what the kernel's memparse does for tmpfs: digits, then k, m, g or %.
func checkSize(value string) error {
	digits := strings.TrimRight(strings.ToLower(value), "kmgtpe%")
	if len(value)-len(digits) > 1 {
		return fmt.Errorf("it has more than one unit")
	}
	_, err := strconv.ParseUint(digits, 10, 63)
	return err
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}
