// Package mountspec turns the three ways in which clients ask for mounts (bind strings, tmpfs option strings and mount objects)
// into one form, checked.
package mountspec

import (
	"fmt"
	"path"
	"strings"

	"github.com/moby/moby/api/types/mount"
)

// Point is one mount of a container, as asked for.
type Point struct {
	Type        mount.Type // bind, volume, tmpfs or image
	Name        string     // of the volume, empty until an anonymous one is made; or what the image was asked for by
	Driver      string     // of the volume
	Source      string     // folder or file of the host; for volumes known once they exist; of an image its id
	Destination string     // absolute and clean path in the container
	Mode        string     // the options as they were written, for inspect
	ReadOnly    bool
	Propagation mount.Propagation

	CreateSource           bool // make a missing host folder, as -v does
	NonRecursive           bool // do not bind what is mounted below the source
	ReadOnlyNonRecursive   bool // leave what is mounted below the source writable
	ReadOnlyForceRecursive bool // fail where the kernel cannot do it
	NoCopy                 bool // do not fill an empty volume from the image
	Anonymous              bool // the volume goes with the container
	Subpath                string
	Labels                 map[string]string // of a volume still to be made
	DriverOpts             map[string]string // likewise
	Options                []string          // of a tmpfs, merged and checked
}

// Check says whether the point could have come from a parser of this package.
func (p Point) Check() error {
	switch p.Type {
	case mount.TypeBind:
		if !path.IsAbs(p.Source) {
			return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", p.Source)
		}
	case mount.TypeVolume:
		if p.Name == "" && !p.Anonymous {
			return fmt.Errorf("volume at %s has no name", p.Destination)
		}
		if err := checkSubpath(p.Subpath); err != nil {
			return err
		}
	case mount.TypeImage:
		if p.Name == "" || !p.ReadOnly {
			return fmt.Errorf("image at %s has no name, or is writable", p.Destination)
		}
		if err := checkSubpath(p.Subpath); err != nil {
			return err
		}
	case mount.TypeTmpfs:
	default:
		return fmt.Errorf("mount type unknown: %q", p.Type)
	}
	clean, err := cleanDestination(p.Destination)
	if err == nil && clean != p.Destination {
		err = fmt.Errorf("mount path %q is not clean", p.Destination)
	}
	return err
}

// cleanDestination checks a path in the container.
func cleanDestination(dest string) (string, error) {
	if strings.ContainsRune(dest, 0) {
		return "", fmt.Errorf("invalid mount path: %q contains a NUL byte", dest)
	}
	if !path.IsAbs(dest) {
		return "", fmt.Errorf("invalid mount path: '%s' mount path must be absolute", dest)
	}
	clean := path.Clean(dest)
	if clean == "/" {
		return "", fmt.Errorf("invalid specification: destination can't be '/'")
	}
	return clean, nil
}

func checkSubpath(sub string) error {
	if sub == "" {
		return nil
	}
	if path.IsAbs(sub) {
		return fmt.Errorf("subpath must be a relative path within the volume")
	}
	if clean := path.Clean(sub); clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(sub, 0) {
		return fmt.Errorf("subpath must be a relative path within the volume")
	}
	return nil
}
