//go:build linux

package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotDirectory says that an archive cannot be unpacked there.
var ErrNotDirectory = errors.New("extraction point is not a directory")

// ExtractOptions says how to unpack.
type ExtractOptions struct {
	// NoOverwriteDirNonDir refuses to put a file where a folder is, or a folder where something else is.
	NoOverwriteDirNonDir bool
	Owner                *Owner // of everything that is unpacked; the archive's when nil
}

// Owner is a user and a group, by number.
type Owner struct{ UID, GID int }

// Extract unpacks a tar stream in a folder. Entries are resolved with the container's root as "/", so that a symlink in the
// container, or in the stream, leads to a place in the container.
func (r *Root) Extract(dir string, stream io.Reader, o ExtractOptions) error {
	f, err := r.open(dir, unix.O_PATH)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.IsDir() {
		return ErrNotDirectory
	}
	x := &extractor{root: r, dir: path.Clean("/" + dir), options: o}
	t := tar.NewReader(stream)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return x.finish()
		}
		if err != nil {
			return fmt.Errorf("reading the archive: %w", err)
		}
		if err := x.entry(h, t); err != nil {
			return fmt.Errorf("unpacking %s: %w", h.Name, err)
		}
	}
}

type extractor struct {
	root    *Root
	dir     string
	options ExtractOptions
	dirs    []*tar.Header // whose times are set at the end
}

// maxDirs bounds the memory that folders cost whose times are set at the end.
const maxDirs = 1 << 20

// inside is the path of an entry in the root; it does not leave the folder by its text.
func (x *extractor) inside(name string) string { return path.Join(x.dir, path.Clean("/"+name)) }

func (x *extractor) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	full := x.inside(h.Name)
	if full == x.dir { // "./": the folder itself stays as it is
		return nil
	}
	parent, err := x.root.openDirs(path.Dir(full), 0o755)
	if err != nil {
		return err
	}
	defer parent.Close()
	at := place{dir: int(parent.Fd()), name: path.Base(full)}
	if err := x.makeRoom(at, h); err != nil {
		return err
	}
	if err := x.make(at, h, content); err != nil {
		return err
	}
	return x.attributes(at, h)
}

// place is a name in an open folder.
type place struct {
	dir  int
	name string
}

func (p place) stat() (*unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(p.dir, p.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return &st, err
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// makeRoom removes what is in the way. A folder stays for a folder; a folder that is not empty gives way to nothing.
func (x *extractor) makeRoom(at place, h *tar.Header) error {
	st, err := at.stat()
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	wasDir, isNow := isDir(st), h.Typeflag == tar.TypeDir
	switch {
	case wasDir && isNow:
		return nil
	case x.options.NoOverwriteDirNonDir && wasDir:
		return fmt.Errorf("cannot overwrite directory %q with non-directory", at.name)
	case x.options.NoOverwriteDirNonDir && isNow:
		return fmt.Errorf("cannot overwrite non-directory %q with directory", at.name)
	case wasDir:
		return unix.Unlinkat(at.dir, at.name, unix.AT_REMOVEDIR)
	}
	return unix.Unlinkat(at.dir, at.name, 0)
}

func (x *extractor) make(at place, h *tar.Header, content io.Reader) error {
	mode := uint32(h.Mode & 0o7777)
	switch h.Typeflag {
	case tar.TypeReg:
		return writeFile(at, content)
	case tar.TypeDir:
		err := unix.Mkdirat(at.dir, at.name, 0o700)
		if errors.Is(err, unix.EEXIST) {
			return nil
		}
		return err
	case tar.TypeSymlink:
		return unix.Symlinkat(h.Linkname, at.dir, at.name)
	case tar.TypeLink:
		return x.link(at, h)
	case tar.TypeFifo:
		return unix.Mknodat(at.dir, at.name, unix.S_IFIFO|mode, 0)
	case tar.TypeChar, tar.TypeBlock:
		kind := uint32(unix.S_IFCHR)
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		return unix.Mknodat(at.dir, at.name, kind|mode, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	}
	return fmt.Errorf("entries of type %q are not supported", h.Typeflag)
}

func writeFile(at place, content io.Reader) error {
	fd, err := unix.Openat(at.dir, at.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), at.name)
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// link makes a hard link to an entry that was unpacked before.
func (x *extractor) link(at place, h *tar.Header) error {
	target := x.inside(h.Linkname)
	parent, err := x.root.open(path.Dir(target), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer parent.Close()
	return unix.Linkat(int(parent.Fd()), path.Base(target), at.dir, at.name, 0)
}

// attributes sets owner, extended attributes, mode and time, in this order: a change of owner clears the others.
func (x *extractor) attributes(at place, h *tar.Header) error {
	if h.Typeflag == tar.TypeLink {
		return nil
	}
	uid, gid := h.Uid, h.Gid
	if o := x.options.Owner; o != nil {
		uid, gid = o.UID, o.GID
	}
	if err := unix.Fchownat(at.dir, at.name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("setting the owner: %w", err)
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := setMode(at, h); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeDir {
		if len(x.dirs) < maxDirs {
			x.dirs = append(x.dirs, h)
		}
		return nil
	}
	return setTime(at, h.ModTime)
}

// setMode works on a descriptor of the file itself, since fchmodat(2) would follow a symlink put there meanwhile.
func setMode(at place, h *tar.Header) error {
	fd, err := unix.Openat(at.dir, at.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), at.name)
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeSymlink != 0 {
		return fmt.Errorf("it was replaced meanwhile: %w", errors.Join(err, unix.ELOOP))
	}
	for name, value := range h.PAXRecords {
		if name = strings.TrimPrefix(name, paxXattr); !carried(name) {
			continue
		}
		if err := unix.Setxattr(procPath(f), name, []byte(value), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return unix.Chmod(procPath(f), uint32(h.Mode&0o7777))
}

func setTime(at place, t time.Time) error {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return nil // a year that the kernel cannot hold: the file has the time of its making
	}
	return unix.UtimesNanoAt(at.dir, at.name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// finish sets the folders' times, the deepest first, now that nothing is written in them any more.
func (x *extractor) finish() error {
	for i := len(x.dirs) - 1; i >= 0; i-- {
		h := x.dirs[i]
		full := x.inside(h.Name)
		parent, err := x.root.open(path.Dir(full), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			continue // replaced by the container, or by a later entry
		}
		_ = setTime(place{dir: int(parent.Fd()), name: path.Base(full)}, h.ModTime)
		parent.Close()
	}
	return nil
}
