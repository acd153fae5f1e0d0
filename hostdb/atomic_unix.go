//go:build !windows

package hostdb

import (
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// tempPattern matches the temporary files that WriteFile leaves when it is killed.
const tempPattern = "." + recordFile + "*"

// WriteFile replaces a file so that a crash at any moment leaves the old content or the new. When it returns nil, the new
// content is on the disk. The folder must exist.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	err := renameio.WriteFile(path, data, mode, renameio.WithTempDir(dir), renameio.WithStaticPermissions(mode))
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes renames in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
