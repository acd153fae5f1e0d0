package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/getberth/berth/guest/seed"
)

// image is a guest image on disk.
type image struct {
	seed.Image
	kernel, initrd, root string // absolute paths
}

// findImage reads the manifest of the guest image to use, and sees that its files are there.
func (d *Driver) findImage(s *state) (*image, error) {
	dir := s.GuestDir
	if dir == "" {
		dir = d.conf.GuestDir
	}
	if dir == "" {
		return nil, errors.New("no guest image is installed\nhint: `make guest` builds one, and BERTH_GUEST_DIR or --qemu-guest-dir names its folder")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	im, err := readManifest(filepath.Join(dir, seed.Manifest))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w\nhint: `make guest` builds the image", err)
		}
		return nil, fmt.Errorf("the guest image: %w", err)
	}
	im.kernel, im.initrd, im.root = filepath.Join(dir, seed.Kernel), filepath.Join(dir, seed.Initrd), filepath.Join(dir, seed.Root)
	for _, p := range []string{im.kernel, im.initrd, im.root} {
		fi, err := os.Stat(p)
		switch {
		case err != nil:
			return nil, fmt.Errorf("the guest image is not whole: %w\nhint: `make guest` builds it", err)
		case !fi.Mode().IsRegular() || fi.Size() == 0:
			return nil, fmt.Errorf("the guest image is broken: %s is empty or no file\nhint: `make guest` builds it", p)
		}
	}
	return im, nil
}

func readManifest(path string) (*image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var im image
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(&im.Image); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if targets[im.Arch] == "" {
		return nil, fmt.Errorf("%s: architecture %q is not known", path, im.Arch)
	}
	return &im, nil
}
