//go:build linux

package container

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRootFilesystemsArePrivate keeps other users of the host from the setuid programs of images, also after an engine that did not.
func TestRootFilesystemsArePrivate(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(r.dir, "exec", "rootfs")
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	r.reopen()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
