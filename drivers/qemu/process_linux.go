package qemu

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// startOf returns when a process started: the boot and the clock ticks since (proc(5), stat, field 22).
func startOf(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	// The second field is the name, in parentheses, and may have anything in it.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 20 {
		return "", errors.New("its stat file is cut off")
	}
	return strings.TrimSpace(string(boot)) + "/" + f[19], nil
}
