//go:build linux

package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// databaseRoom is how large a new database is made, in bytes: room for some hundred images.
const databaseRoom = 1 << 20

// makeDatabase makes an empty database at path if there is none. Its room is written, not only reserved: what then is overwritten in
// place reaches the disk by one flush, where a file that grows takes a journal's commit as well, for each of the dozens of
// transactions of a pull.
func makeDatabase(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeDatabase(tmp); err != nil {
		return fmt.Errorf("making the database %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func writeDatabase(path string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true})
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(make([]byte, max(0, databaseRoom-fi.Size())), fi.Size()); err != nil {
		return err
	}
	return f.Sync()
}
