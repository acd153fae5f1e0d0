package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
)

// hardware tells why KVM cannot be used. That /dev/kvm opens is not enough: there are computers where it does and no stock
// kernel boots, which show neither vmx nor svm.
func hardware(string) error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return errors.New("no permission to open /dev/kvm: add yourself to its group (`sudo usermod -aG kvm $USER`) and log in again")
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("KVM is not available: there is no /dev/kvm (virtualisation is off in the firmware, or this is a VM itself)")
	case err != nil:
		return fmt.Errorf("KVM is not available: %w", err)
	}
	f.Close()
	if runtime.GOARCH != "amd64" {
		return nil
	}
	info, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return fmt.Errorf("looking for virtualisation in the CPU: %w", err)
	}
	defer info.Close()
	s := bufio.NewScanner(info)
	for s.Scan() {
		if flags, ok := strings.CutPrefix(s.Text(), "flags"); ok {
			if l := strings.Fields(flags); slices.Contains(l, "vmx") || slices.Contains(l, "svm") {
				return nil
			}
			break
		}
	}
	return errors.New("the CPU shows neither vmx nor svm: KVM would not boot a kernel")
}
