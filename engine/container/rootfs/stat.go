//go:build linux

package rootfs

import (
	"errors"
	"os"
	"path"
	"strings"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// base is the name that an archive of the path begins with: its last element, "." after a trailing "/.", "/" for the root.
func base(name string) string {
	if strings.HasSuffix(name, "/.") {
		return "."
	}
	return path.Base(path.Clean("/" + name))
}

// openLast opens what is at the path, a symlink itself rather than what it points to, unless split says otherwise.
func (r *Root) openLast(name string) (*os.File, error) {
	dir, last := split(name)
	if last == "" {
		f, err := r.open(dir, unix.O_PATH)
		if err == nil {
			err = trailing(f, name)
		}
		return f, err
	}
	parent, err := r.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	fd, err := unix.Openat(int(parent.Fd()), last, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), last), nil
}

// trailing: a slash at the end says that it is a folder.
func trailing(f *os.File, name string) error {
	info, err := f.Stat()
	if err == nil && !info.IsDir() {
		err = &os.PathError{Op: "open", Path: name, Err: unix.ENOTDIR}
	}
	if err != nil {
		f.Close()
	}
	return err
}

// Stat describes what is at the path, a symlink itself rather than what it points to.
func (r *Root) Stat(name string) (container.PathStat, error) {
	f, err := r.openLast(name)
	if err != nil {
		return container.PathStat{}, err
	}
	defer f.Close()
	return r.describe(f, name)
}

func (r *Root) describe(f *os.File, name string) (container.PathStat, error) {
	info, err := f.Stat()
	if err != nil {
		return container.PathStat{}, err
	}
	st := container.PathStat{Name: base(name), Size: info.Size(), Mode: info.Mode(), Mtime: info.ModTime()}
	if info.Mode()&os.ModeSymlink != 0 {
		st.LinkTarget = r.linkTarget(f, name)
	}
	return st, nil
}

// linkTarget is where a symlink leads to, as an absolute path in the root. One that leads nowhere is resolved by its text.
func (r *Root) linkTarget(link *os.File, name string) string {
	text, err := readlinkFd(int(link.Fd()), "")
	if err != nil {
		return ""
	}
	if !path.IsAbs(text) {
		text = path.Join(path.Dir(path.Clean("/"+name)), text)
	}
	target, err := r.open(text, unix.O_PATH)
	if err != nil {
		return path.Clean(text)
	}
	defer target.Close()
	full, err1 := os.Readlink(procPath(target))
	root, err2 := os.Readlink(procPath(r.dir))
	if err1 != nil || err2 != nil || !strings.HasPrefix(full, root) {
		return path.Clean(text)
	}
	return path.Clean("/" + strings.TrimPrefix(full, root))
}

// readlinkFd reads a symlink; an empty name means the descriptor's own.
func readlinkFd(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// IsNotExist says that a path, or a folder on the way to it, is missing.
func IsNotExist(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}
