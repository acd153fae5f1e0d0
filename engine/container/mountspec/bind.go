package mountspec

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/moby/moby/api/types/mount"
)

var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// ParseBind reads SOURCE:DESTINATION[:MODE], as -v writes it; the source is an absolute path of the host or a volume's name.
// Without a source it is an anonymous volume. volumeDriver is the driver for volumes that do not exist yet.
func ParseBind(raw, volumeDriver string) (Point, error) {
	p, err := parseBind(raw, volumeDriver)
	if err != nil {
		return Point{}, fmt.Errorf("invalid volume specification: '%s': %w", raw, err)
	}
	return p, nil
}

func parseBind(raw, volumeDriver string) (Point, error) {
	parts := strings.Split(raw, ":")
	var source, dest, mode string
	switch {
	case len(parts) == 1:
		dest = parts[0]
	case len(parts) == 2 && validMode(parts[1]):
		dest, mode = parts[0], parts[1]
	case len(parts) == 2:
		source, dest = parts[0], parts[1]
	case len(parts) == 3:
		source, dest, mode = parts[0], parts[1], parts[2]
	default:
		return Point{}, fmt.Errorf("it has more than two colons")
	}
	if len(parts) > 1 && source == "" && mode == "" {
		return Point{}, fmt.Errorf("the source is empty")
	}
	clean, err := cleanDestination(dest)
	if err != nil {
		return Point{}, err
	}
	p := Point{Destination: clean}
	if err := p.setSource(source, volumeDriver); err != nil {
		return Point{}, err
	}
	err = p.setMode(mode)
	return p, err
}

func (p *Point) setSource(source, volumeDriver string) error {
	if path.IsAbs(source) {
		if strings.ContainsRune(source, 0) {
			return fmt.Errorf("the source contains a NUL byte")
		}
		p.Type, p.Source, p.CreateSource = mount.TypeBind, path.Clean(source), true
		return nil
	}
	p.Type, p.Driver = mount.TypeVolume, driverOrLocal(volumeDriver)
	p.Anonymous = source == ""
	if source != "" {
		if err := CheckVolumeName(source); err != nil {
			return err
		}
	}
	p.Name = source
	return nil
}

// CheckVolumeName says whether a volume can have this name.
func CheckVolumeName(name string) error {
	if len(name) == 1 {
		return fmt.Errorf("volume name is too short, names should be at least two alphanumeric characters")
	}
	if !volumeName.MatchString(name) {
		return fmt.Errorf("%q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. "+
			"If you intended to pass a host directory, use absolute path", name)
	}
	return nil
}

func driverOrLocal(driver string) string {
	if driver == "" {
		return "local"
	}
	return driver
}

// modeGroup names what an option is about: of each group a mode may have one.
func modeGroup(option string) string {
	switch option {
	case "ro", "rw":
		return "access"
	case "z", "Z":
		return "label"
	case "nocopy":
		return "copy"
	case "consistent", "cached", "delegated", "default":
		return "consistency"
	}
	if propagation(option) {
		return "propagation"
	}
	return ""
}

func propagation(option string) bool {
	for _, p := range mount.Propagations {
		if string(p) == option {
			return true
		}
	}
	return false
}

func validMode(mode string) bool {
	return mode != "" && new(Point).setModeOptions(mode) == nil
}

// setMode applies a mode and checks that it fits the type.
func (p *Point) setMode(mode string) error {
	if err := p.setModeOptions(mode); err != nil {
		return err
	}
	if p.Type == mount.TypeVolume && p.Propagation != "" {
		return fmt.Errorf("invalid mode: %s: a volume has no propagation", mode)
	}
	if p.Type == mount.TypeBind && p.NoCopy {
		return fmt.Errorf("invalid mode: %s: nothing is ever copied to a folder of the host", mode)
	}
	if p.Type == mount.TypeBind && p.Propagation == "" {
		p.Propagation = mount.PropagationRPrivate
	}
	return nil
}

func (p *Point) setModeOptions(mode string) error {
	p.Mode = mode
	if mode == "" {
		return nil
	}
	seen := map[string]bool{}
	for option := range strings.SplitSeq(mode, ",") {
		group := modeGroup(option)
		if group == "" || seen[group] {
			return fmt.Errorf("invalid mode: %s", mode)
		}
		seen[group] = true
		switch group {
		case "access":
			p.ReadOnly = option == "ro"
		case "copy":
			p.NoCopy = true
		case "propagation":
			p.Propagation = mount.Propagation(option)
		}
	}
	return nil
}
