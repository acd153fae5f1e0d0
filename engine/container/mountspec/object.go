package mountspec

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/mount"
)

// FromMount reads a mount object, as --mount sends it. Whether the source of a bind exists is not its business.
func FromMount(m mount.Mount, volumeDriver string) (Point, error) {
	p, err := fromMount(m, volumeDriver)
	if err != nil {
		return Point{}, fmt.Errorf("invalid mount config for type %q: %w", m.Type, err)
	}
	return p, nil
}

func fromMount(m mount.Mount, volumeDriver string) (Point, error) {
	if m.Target == "" {
		return Point{}, fmt.Errorf("field Target must not be empty")
	}
	dest, err := cleanDestination(m.Target)
	if err != nil {
		return Point{}, err
	}
	if err := checkConsistency(m.Consistency); err != nil {
		return Point{}, err
	}
	p := Point{Type: m.Type, Destination: dest, ReadOnly: m.ReadOnly}
	if err := foreignOptions(m); err != nil {
		return Point{}, err
	}
	switch m.Type {
	case mount.TypeBind:
		err = p.setBind(m)
	case mount.TypeVolume:
		err = p.setVolume(m, volumeDriver)
	case mount.TypeTmpfs:
		err = p.setTmpfs(m)
	case mount.TypeImage:
		err = p.setImage(m)
	case mount.TypeCluster, mount.TypeNamedPipe:
		err = fmt.Errorf("this engine does not mount this type")
	default:
		err = fmt.Errorf("mount type unknown")
	}
	return p, err
}

func checkConsistency(c mount.Consistency) error {
	switch c {
	case "", mount.ConsistencyDefault, mount.ConsistencyFull, mount.ConsistencyCached, mount.ConsistencyDelegated:
		return nil
	}
	return fmt.Errorf("consistency %q is not known", c)
}

// foreignOptions refuses the options of one type on another.
func foreignOptions(m mount.Mount) error {
	for _, o := range []struct {
		name  string
		given bool
		typ   mount.Type
	}{
		{"BindOptions", m.BindOptions != nil, mount.TypeBind},
		{"VolumeOptions", m.VolumeOptions != nil, mount.TypeVolume},
		{"TmpfsOptions", m.TmpfsOptions != nil, mount.TypeTmpfs},
		{"ImageOptions", m.ImageOptions != nil, mount.TypeImage},
		{"ClusterOptions", m.ClusterOptions != nil, mount.TypeCluster},
	} {
		if o.given && o.typ != m.Type {
			return fmt.Errorf("field %s must not be specified", o.name)
		}
	}
	return nil
}

func (p *Point) setBind(m mount.Mount) error {
	if m.Source == "" {
		return fmt.Errorf("field Source must not be empty")
	}
	if !path.IsAbs(m.Source) || strings.ContainsRune(m.Source, 0) {
		return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", m.Source)
	}
	p.Source = path.Clean(m.Source)
	p.Propagation = mount.PropagationRPrivate
	o := m.BindOptions
	if o == nil {
		return nil
	}
	if o.Propagation != "" {
		if !propagation(string(o.Propagation)) {
			return fmt.Errorf("invalid propagation mode: %s", o.Propagation)
		}
		p.Propagation = o.Propagation
	}
	p.CreateSource, p.NonRecursive = o.CreateMountpoint, o.NonRecursive
	p.ReadOnlyNonRecursive, p.ReadOnlyForceRecursive = o.ReadOnlyNonRecursive, o.ReadOnlyForceRecursive
	return p.checkReadOnly()
}

func (p *Point) checkReadOnly() error {
	switch {
	case !p.ReadOnly && (p.ReadOnlyNonRecursive || p.ReadOnlyForceRecursive):
		return fmt.Errorf("mount must be set ReadOnly to use ReadOnlyNonRecursive or ReadOnlyForceRecursive")
	case p.ReadOnlyNonRecursive && p.ReadOnlyForceRecursive:
		return fmt.Errorf("ReadOnlyForceRecursive must not be used with ReadOnlyNonRecursive")
	case p.ReadOnlyForceRecursive && p.NonRecursive:
		return fmt.Errorf("ReadOnlyForceRecursive must not be used with NonRecursive")
	case p.ReadOnlyForceRecursive && p.Propagation != mount.PropagationRPrivate:
		return fmt.Errorf("ReadOnlyForceRecursive requires Propagation to be specified as rprivate")
	}
	return nil
}

func (p *Point) setVolume(m mount.Mount, volumeDriver string) error {
	p.Driver = driverOrLocal(volumeDriver)
	p.Name, p.Anonymous = m.Source, m.Source == ""
	if m.Source != "" {
		if err := CheckVolumeName(m.Source); err != nil {
			return err
		}
	}
	o := m.VolumeOptions
	if o == nil {
		return nil
	}
	if p.Anonymous && o.Subpath != "" {
		return fmt.Errorf("must not set Subpath when using anonymous volumes")
	}
	if err := checkSubpath(o.Subpath); err != nil {
		return err
	}
	p.NoCopy, p.Labels, p.Subpath = o.NoCopy, o.Labels, o.Subpath
	if o.DriverConfig != nil {
		p.Driver, p.DriverOpts = driverOrLocal(o.DriverConfig.Name), o.DriverConfig.Options
	}
	return nil
}

// setImage: an image is mounted as it is, whether the client says that it is to be read only or not.
func (p *Point) setImage(m mount.Mount) error {
	if m.Source == "" {
		return fmt.Errorf("field Source must not be empty")
	}
	p.Name, p.ReadOnly = m.Source, true
	if m.ImageOptions != nil {
		p.Subpath = m.ImageOptions.Subpath
	}
	return checkSubpath(p.Subpath)
}

func (p *Point) setTmpfs(m mount.Mount) error {
	if m.Source != "" {
		return fmt.Errorf("field Source must not be specified")
	}
	options, err := tmpfsOptions(m)
	if err != nil {
		return err
	}
	p.Options, err = mergeTmpfs(options)
	return err
}

func tmpfsOptions(m mount.Mount) ([]string, error) {
	var options []string
	if m.ReadOnly {
		options = append(options, "ro")
	}
	o := m.TmpfsOptions
	if o == nil {
		return options, nil
	}
	if o.SizeBytes < 0 {
		return nil, fmt.Errorf("size must not be negative")
	}
	if o.SizeBytes > 0 {
		options = append(options, "size="+strconv.FormatInt(o.SizeBytes, 10))
	}
	if o.Mode != 0 {
		options = append(options, "mode="+strconv.FormatUint(uint64(o.Mode.Perm())|uint64(o.Mode&0o7000), 8))
	}
	for _, option := range o.Options {
		if len(option) == 0 || len(option) > 2 {
			return nil, fmt.Errorf("invalid option array length: %d", len(option))
		}
		options = append(options, strings.Join(option, "="))
	}
	return options, nil
}
