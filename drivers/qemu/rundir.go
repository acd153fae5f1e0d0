package qemu

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/getberth/berth/background"
	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/qemu/vswitch"
)

// runDir makes sure of the folder for a store's sockets. It is the store's own, so that every process of every session finds the
// same, whatever its environment, and no log-out or cleaner of temporary files takes it away; where that path is too long for a
// socket, it is one under the temporary folder.
func (d *Driver) runDir(h *drivers.Host) (string, error) {
	store := d.store(h)
	dir := filepath.Join(store, "qemu", "run")
	if len(filepath.Join(dir, vswitch.Socket)) > background.MaxSocketPath {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("berth-%d", os.Getuid()), storeHash(store))
		if err := background.PrivateDir(filepath.Dir(dir)); err != nil {
			return "", err
		}
	}
	if len(filepath.Join(dir, vswitch.Socket)) > background.MaxSocketPath {
		return "", fmt.Errorf("the folder for sockets, %s, has too long a path: set TMPDIR to a shorter one", dir)
	}
	return dir, background.PrivateDir(dir)
}
