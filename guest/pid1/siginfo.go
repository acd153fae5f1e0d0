//go:build linux

package pid1

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// siginfoPID reads si_pid, which x/sys/unix leaves in the opaque part: three ints (signo, errno, code), padding to the union's
// alignment on 64-bit platforms, then the pid. Source: linux/include/uapi/asm-generic/siginfo.h.
func siginfoPID(info *unix.Siginfo) int {
	const union = 4 * unsafe.Sizeof(int32(0))
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), union)))
}
