package qemu

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/qemu/vswitch"
)

// maxSocketPath is the longest path of a unix socket, in bytes, on the system with the least room: 104 with the final zero on
// macOS (sys/un.h), 108 elsewhere.
const maxSocketPath = 103

// runDir makes sure of the folder for a store's sockets. It is the store's own, so that every process of every session finds the
// same, whatever its environment, and no log-out or cleaner of temporary files takes it away; where that path is too long for a
// socket, it is one under the temporary folder.
func (d *Driver) runDir(h *drivers.Host) (string, error) {
	store := d.store(h)
	dir := filepath.Join(store, "qemu", "run")
	if len(filepath.Join(dir, vswitch.Socket)) > maxSocketPath {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("berth-%d", os.Getuid()), storeHash(store))
		if err := privateDir(filepath.Dir(dir)); err != nil {
			return "", err
		}
	}
	if len(filepath.Join(dir, vswitch.Socket)) > maxSocketPath {
		return "", fmt.Errorf("the folder for sockets, %s, has too long a path: set TMPDIR to a shorter one", dir)
	}
	return dir, privateDir(dir)
}

// privateDir makes a folder that is this user's alone, and refuses one that is not: who owns it could put sockets of his own there.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the folder for sockets: %w", err)
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() || !ownedPrivately(fi) {
		return fmt.Errorf("the folder for sockets, %s, is open to other users: remove it", dir)
	}
	return nil
}
