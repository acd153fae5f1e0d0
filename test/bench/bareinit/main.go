//go:build linux

// Command bareinit is the least that an init can do: it says that it runs and switches the machine off. A boot of it is what a
// kernel costs by itself.
package main

import (
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	_, _ = os.Stdout.WriteString("bareinit runs\n")
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
