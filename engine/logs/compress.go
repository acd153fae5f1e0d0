package logs

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// gzSuffix is of compressed files, whose header's comment says which plain file they were made of: see identity.
const gzSuffix = ".gz"

// compress puts path.gz into the place of path. For a moment there are both, with the same content.
func compress(path string) (err error) {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	temporary := path + gzSuffix + ".tmp"
	to, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(temporary)
		}
	}()
	z, err := gzip.NewWriterLevel(to, gzip.BestSpeed)
	if err == nil {
		z.Comment = identity(info)
		_, err = io.Copy(z, from)
		err = errors.Join(err, z.Close())
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, path+gzSuffix); err != nil {
		return err
	}
	return os.Remove(path)
}

// openCompressed unpacks a file, which this program has made, into one that has no name.
func openCompressed(path string) (*source, error) {
	from, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	z, err := gzip.NewReader(from)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	to, err := os.CreateTemp(filepath.Dir(path), ".unpacked-")
	if err != nil {
		return nil, err
	}
	os.Remove(to.Name())
	size, err := io.Copy(to, z)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, gzip.ErrChecksum) { // what a broken one holds is read
		to.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	info, err := to.Stat()
	if err != nil {
		to.Close()
		return nil, err
	}
	return &source{file: to, size: size, info: info, plain: strings.Clone(z.Comment)}, nil
}
