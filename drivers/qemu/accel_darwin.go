package qemu

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// hardware tells why the Hypervisor framework cannot be used.
func hardware(string) error {
	n, err := unix.SysctlUint32("kern.hv_support")
	if err != nil {
		return fmt.Errorf("asking for the Hypervisor framework: %w", err)
	}
	if n != 1 {
		return errors.New("this Mac has no Hypervisor framework")
	}
	return nil
}
