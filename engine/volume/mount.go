package volume

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountSpec is what a volume's options ask to be mounted, in the terms of mount(8).
type mountSpec struct {
	fstype, device string
	flags          uintptr
	propagation    uintptr
	data           string
}

// mountFlags are the words of "o" that mount(2) takes as flags; all others are the filesystem's data.
// set says whether the word sets the flag or clears it.
func mountFlag(word string) (flag uintptr, set, ok bool) {
	switch word {
	case "defaults", "_netdev":
		return 0, true, true
	case "ro":
		return unix.MS_RDONLY, true, true
	case "rw":
		return unix.MS_RDONLY, false, true
	case "bind":
		return unix.MS_BIND, true, true
	case "rbind":
		return unix.MS_BIND | unix.MS_REC, true, true
	case "nosuid":
		return unix.MS_NOSUID, true, true
	case "suid":
		return unix.MS_NOSUID, false, true
	case "nodev":
		return unix.MS_NODEV, true, true
	case "dev":
		return unix.MS_NODEV, false, true
	case "noexec":
		return unix.MS_NOEXEC, true, true
	case "exec":
		return unix.MS_NOEXEC, false, true
	case "sync":
		return unix.MS_SYNCHRONOUS, true, true
	case "async":
		return unix.MS_SYNCHRONOUS, false, true
	case "dirsync":
		return unix.MS_DIRSYNC, true, true
	case "noatime":
		return unix.MS_NOATIME, true, true
	case "atime":
		return unix.MS_NOATIME, false, true
	case "nodiratime":
		return unix.MS_NODIRATIME, true, true
	case "diratime":
		return unix.MS_NODIRATIME, false, true
	case "relatime":
		return unix.MS_RELATIME, true, true
	case "norelatime":
		return unix.MS_RELATIME, false, true
	case "strictatime":
		return unix.MS_STRICTATIME, true, true
	case "mand", "nomand": // the kernel dropped mandatory locks in 5.15
		return 0, true, true
	}
	return 0, false, false
}

// mountPropagation are the words of "o" that need a mount(2) of their own.
func mountPropagation(word string) (uintptr, bool) {
	switch word {
	case "private":
		return unix.MS_PRIVATE, true
	case "rprivate":
		return unix.MS_PRIVATE | unix.MS_REC, true
	case "shared":
		return unix.MS_SHARED, true
	case "rshared":
		return unix.MS_SHARED | unix.MS_REC, true
	case "slave":
		return unix.MS_SLAVE, true
	case "rslave":
		return unix.MS_SLAVE | unix.MS_REC, true
	case "unbindable":
		return unix.MS_UNBINDABLE, true
	case "runbindable":
		return unix.MS_UNBINDABLE | unix.MS_REC, true
	}
	return 0, false
}

// parseMount reads the options type, device and o. It returns nil when nothing is to be mounted.
func parseMount(options map[string]string) (*mountSpec, error) {
	for name := range options {
		switch name {
		case "type", "device", "o":
		case "size":
			return nil, errors.New("quota size requested but no quota support")
		default:
			return nil, fmt.Errorf("invalid option: %q", name)
		}
	}
	if len(options) == 0 {
		return nil, nil
	}
	for _, required := range []string{"device", "type"} {
		if options[required] == "" {
			return nil, fmt.Errorf("missing required option: %q", required)
		}
	}
	for name, value := range options {
		if strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("option %q contains a zero byte", name)
		}
	}
	m := &mountSpec{fstype: options["type"], device: options["device"]}
	m.parseOptions(options["o"])
	return m, nil
}

func (m *mountSpec) parseOptions(o string) {
	var data []string
	for word := range strings.SplitSeq(o, ",") {
		if flag, set, ok := mountFlag(word); ok {
			m.flags &^= flag
			if set {
				m.flags |= flag
			}
		} else if flag, ok := mountPropagation(word); ok {
			m.propagation = flag
		} else if word != "" {
			data = append(data, word)
		}
	}
	m.data = strings.Join(data, ",")
}

// mount mounts the volume at target.
func (m *mountSpec) mount(ctx context.Context, target string) error {
	data := m.data
	if m.fstype == "nfs" || m.fstype == "nfs4" || m.fstype == "cifs" {
		var err error
		if data, err = resolveAddr(ctx, data); err != nil {
			return err
		}
	}
	if err := unix.Mount(m.device, target, m.fstype, m.flags, data); err != nil {
		return fmt.Errorf("mounting %s (type %s): %w", m.device, m.fstype, err)
	}
	if err := m.finish(target); err != nil {
		return errors.Join(err, unix.Unmount(target, unix.MNT_DETACH))
	}
	return nil
}

// finish does what the first mount(2) cannot: the flags of a bind mount, and propagation (mount(2), "Creating a bind mount").
func (m *mountSpec) finish(target string) error {
	if extra := m.flags &^ (unix.MS_BIND | unix.MS_REC); m.flags&unix.MS_BIND != 0 && extra != 0 {
		if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|extra, ""); err != nil {
			return fmt.Errorf("setting the options of bind mount %s: %w", m.device, err)
		}
	}
	if m.propagation != 0 {
		if err := unix.Mount("", target, "", m.propagation, ""); err != nil {
			return fmt.Errorf("setting the propagation of %s: %w", m.device, err)
		}
	}
	return nil
}

// resolveAddr replaces the name in addr=NAME by its address: mount(8)'s helpers do it, the kernel does not.
func resolveAddr(ctx context.Context, data string) (string, error) {
	words := strings.Split(data, ",")
	i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "addr=") })
	if i < 0 {
		return data, nil
	}
	host := strings.TrimPrefix(words[i], "addr=")
	if net.ParseIP(host) != nil {
		return data, nil
	}
	addrs, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return "", fmt.Errorf("error resolving passed in network volume address: %w", err)
	}
	words[i] = "addr=" + addrs[0].String()
	return strings.Join(words, ","), nil
}

// isMounted reports whether something is mounted at path itself.
func isMounted(path string) (bool, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(path))
	return len(mounts) > 0, err
}

// unmountBelow unmounts all that is mounted at path or below it, the innermost first.
func unmountBelow(path string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(path))
	if err != nil {
		return fmt.Errorf("reading the mount table: %w", err)
	}
	slices.Reverse(mounts) // the table lists a mount after the one it is on
	for _, m := range mounts {
		if err := unix.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmounting %s: %w", m.Mountpoint, err)
		}
	}
	return nil
}
