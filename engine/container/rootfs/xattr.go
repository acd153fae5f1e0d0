//go:build linux

package rootfs

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const paxXattr = "SCHILY.xattr."

func zeroTime() time.Time { return time.Time{} }

// carried says which extended attributes travel: capabilities of files, and what users set. Overlay's own must not.
func carried(name string) bool {
	return name == "security.capability" || strings.HasPrefix(name, "user.")
}

// xattrs returns a file's extended attributes in the form of a tar header; nil when it has none.
func xattrs(f *os.File) map[string]string {
	path := procPath(f)
	n, err := unix.Listxattr(path, nil)
	if err != nil || n == 0 {
		return nil
	}
	list := make([]byte, n)
	if n, err = unix.Listxattr(path, list); err != nil {
		return nil
	}
	var records map[string]string
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if !carried(name) {
			continue
		}
		if value, ok := xattr(path, name); ok {
			if records == nil {
				records = map[string]string{}
			}
			records[paxXattr+name] = value
		}
	}
	return records
}

func xattr(path, name string) (string, bool) {
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	n, err := unix.Getxattr(path, name, value)
	if err != nil {
		return "", false
	}
	return string(value[:n]), true
}
