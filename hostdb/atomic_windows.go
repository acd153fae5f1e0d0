package hostdb

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/windows"
)

// tempPattern matches the temporary files that WriteFile leaves when it is killed.
const tempPattern = "." + recordFile + "-*"

// WriteFile replaces a file so that a crash at any moment leaves the old content or the new. When it returns nil, the new
// content is on the disk. The folder must exist.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// rename retries for a second while a reader, or a virus scanner, has the old file open: Windows then refuses to replace it,
// and gives no event for its end.
func rename(from, to string) error {
	var err error
	for range 50 {
		p, q, cerr := utf16Pair(from, to)
		if cerr != nil {
			return cerr
		}
		err = windows.MoveFileEx(p, q, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH)
		busy := errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
		if !busy {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func utf16Pair(a, b string) (p, q *uint16, err error) {
	if p, err = windows.UTF16PtrFromString(a); err != nil {
		return nil, nil, err
	}
	q, err = windows.UTF16PtrFromString(b)
	return p, q, err
}

// syncDir does nothing: NTFS journals its folders, and the renames above are written through.
func syncDir(string) error { return nil }
