//go:build unix

package background

import (
	"os"
	"os/exec"
	"syscall"
)

// Detach makes a command survive its starter and the starter's terminal.
func Detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// ownedPrivately tells whether a folder is this user's and nobody else can enter it.
func ownedPrivately(fi os.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid() && fi.Mode().Perm()&0o077 == 0
}
