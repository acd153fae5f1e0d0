//go:build linux

// Package rootfs reads and writes below a container's root folder. The kernel resolves every path with the folder as its root
// (openat2, Linux 5.6), so that no symlink, however fast the container swaps it, leads out.
package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is a folder that is "/" to all paths. It must be closed.
type Root struct{ dir *os.File }

// Open takes a folder of the host as root.
func Open(dir string) (*Root, error) {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &Root{dir: f}, nil
}

// OpenProcess takes the root of a process, with everything that is mounted for it.
func OpenProcess(pid int) (*Root, error) { return Open(fmt.Sprintf("/proc/%d/root", pid)) }

// Close gives the folder back.
func (r *Root) Close() error { return r.dir.Close() }

// OpenBeneath takes hold of a path below a folder of the host, without opening what is there. A path that leads out of the
// folder, by a symlink too, is unix.EXDEV.
func OpenBeneath(dir, name string) (*os.File, error) {
	r, err := Open(dir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return resolve(int(r.dir.Fd()), name, unix.O_PATH, unix.RESOLVE_BENEATH)
}

// open resolves a path with this folder as root. The last element's symlink is followed unless flags have O_NOFOLLOW.
func (r *Root) open(name string, flags int) (*os.File, error) {
	return openAt(int(r.dir.Fd()), name, flags)
}

func openAt(dir int, name string, flags int) (*os.File, error) {
	return resolve(dir, name, flags, unix.RESOLVE_IN_ROOT)
}

func resolve(dir int, name string, flags int, how uint64) (*os.File, error) {
	if name == "" {
		name = "."
	}
	open := &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: how | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(dir, name, open)
		// EAGAIN says that something was renamed meanwhile, openat2(2).
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// OpenFile opens a regular file for reading; anything else is refused before it is opened, since opening a pipe or a device
// can block or act.
func (r *Root) OpenFile(name string) (*os.File, error) {
	probe, err := r.open(name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer probe.Close()
	return reopenRegular(probe, name)
}

func reopenRegular(probe *os.File, name string) (*os.File, error) {
	info, err := probe.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	// /proc/self/fd is the way to open for reading what an O_PATH descriptor holds, open(2).
	return os.OpenFile(procPath(probe), os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
}

func procPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// ReadFile returns a file's content; more than limit bytes are an error, a missing file is os.ErrNotExist.
func (r *Root) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := r.OpenFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, err
}

// IsDir says whether the path, followed, is a folder.
func (r *Root) IsDir(name string) bool {
	f, err := r.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// MkdirAll makes a folder and its parents, owned by root. What exists is left as it is.
func (r *Root) MkdirAll(name string, mode uint32) error {
	f, err := r.openDirs(name, mode)
	if err != nil {
		return err
	}
	return f.Close()
}

// openDirs opens a folder, making it and its parents where they are missing.
func (r *Root) openDirs(name string, mode uint32) (*os.File, error) {
	f, err := r.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	dir, base := path.Split(path.Clean("/" + name))
	if base == "" {
		return nil, err
	}
	parent, err := r.openDirs(dir, mode)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	err = unix.Mkdirat(int(parent.Fd()), base, mode)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return openDirect(parent, base)
}

// openDirect opens a child that is a folder itself, not a symlink to one.
func openDirect(parent *os.File, base string) (*os.File, error) {
	fd, err := unix.Openat(int(parent.Fd()), base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: base, Err: err}
	}
	return os.NewFile(uintptr(fd), base), nil
}

// OpenPath returns a descriptor that names what is at the path and cannot be read or written through; "/proc/self/fd/N" of it
// can be mounted.
func (r *Root) OpenPath(name string) (*os.File, error) { return r.open(name, unix.O_PATH) }

// split separates the last element, which is not to be followed, from its parent, as Docker reads paths of an archive: with a
// trailing slash or "/." the last element is followed.
func split(name string) (dir, base string) {
	abs := "/" + strings.TrimLeft(name, "/")
	if strings.HasSuffix(abs, "/") || strings.HasSuffix(abs, "/.") || strings.HasSuffix(abs, "/..") {
		return abs, ""
	}
	return path.Split(abs)
}
