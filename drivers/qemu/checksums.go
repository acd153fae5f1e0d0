package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/getberth/berth/drivers"
)

// checked remembers the files of guest images whose content was compared with their checksums, so that it is done once and not at
// each start. A store keeps what it knows in its folder `qemu`, without which everything is compared again.
type checked struct {
	mu    sync.Mutex
	files map[string]stamp // guarded by mu; by checksum
}

// stamp tells a file that was compared from one that has been written since.
type stamp struct {
	Size  int64 `json:"size"`
	Mtime int64 `json:"mtime"` // ns since 1970
}

// checkedFile has the stamps of compared files by their checksums.
const checkedFile = "images.json"

// maxChecked bounds the files that are remembered; an image has three.
const maxChecked = 64

// verify compares an image's files with the manifest's checksums: a half-copied root file system boots, and fails later where
// nobody thinks of it.
func (d *Driver) verify(ctx context.Context, h *drivers.Host, im *image) error {
	d.checked.mu.Lock()
	defer d.checked.mu.Unlock()
	if d.checked.files == nil {
		d.checked.files = readChecked(filepath.Join(d.store(h), "qemu", checkedFile))
	}
	for _, path := range []string{im.kernel, im.initrd, im.root} {
		if err := d.checked.verify(ctx, path, im.Files[filepath.Base(path)]); err != nil {
			return fmt.Errorf("the guest image is broken: %w\nhint: `make guest` builds it anew", err)
		}
	}
	return nil
}

// remember writes down what is known, for the next process. Not being able to costs that one a comparison, no more.
func (d *Driver) remember(h *drivers.Host) {
	d.checked.mu.Lock()
	defer d.checked.mu.Unlock()
	path := filepath.Join(d.store(h), "qemu", checkedFile)
	if maps.Equal(readChecked(path), d.checked.files) {
		return
	}
	b, err := json.Marshal(d.checked.files)
	if err == nil {
		err = replaceFile(path, b)
	}
	if err != nil {
		debugf(h, "remembering the guest image's checksums: %v", err)
	}
}

func readChecked(path string) map[string]stamp {
	files := map[string]stamp{}
	if b, err := os.ReadFile(path); err != nil || json.Unmarshal(b, &files) != nil || files == nil || len(files) > maxChecked {
		return map[string]stamp{}
	}
	return files
}

// verify compares one file unless it is known. The lock is held.
func (c *checked) verify(ctx context.Context, path, want string) error {
	if want == "" {
		return fmt.Errorf("its manifest has no checksum of %s", filepath.Base(path))
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	now := stamp{fi.Size(), fi.ModTime().UnixNano()}
	if c.files[want] == now {
		return nil
	}
	got, err := checksum(ctx, f)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if got != want {
		return fmt.Errorf("%s has another checksum than its manifest says", path)
	}
	c.files[want] = now
	return nil
}

// checksum returns a file's SHA-256 in hex.
func checksum(ctx context.Context, f *os.File) (string, error) {
	h, b := sha256.New(), make([]byte, 1<<20)
	for {
		n, err := f.Read(b)
		h.Write(b[:n])
		switch {
		case errors.Is(err, io.EOF):
			return hex.EncodeToString(h.Sum(nil)), nil
		case err != nil:
			return "", err
		case ctx.Err() != nil:
			return "", ctx.Err()
		}
	}
}
