package qemu

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// hardware tells why the Windows Hypervisor Platform cannot be used. See WHvGetCapability in Microsoft's documentation:
// capability 0, WHvCapabilityCodeHypervisorPresent, is a BOOL.
func hardware(string) error {
	const hint = "turn on the Windows feature \"Windows Hypervisor Platform\" and restart"
	get := windows.NewLazySystemDLL("WinHvPlatform.dll").NewProc("WHvGetCapability")
	if err := get.Find(); err != nil {
		return fmt.Errorf("the Windows Hypervisor Platform is not installed: %s", hint)
	}
	var present, size uint32
	if r, _, _ := get.Call(0, uintptr(unsafe.Pointer(&present)), unsafe.Sizeof(present), uintptr(unsafe.Pointer(&size))); r != 0 {
		return fmt.Errorf("the Windows Hypervisor Platform answers with error 0x%x", r)
	}
	if present == 0 {
		return errors.New("no hypervisor is running: " + hint)
	}
	return nil
}
