//go:build linux

package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// Archive writes what is at the path as a tar stream, in which it is named by the path's last element. It is described before
// anything is read.
type Archive struct {
	Stat container.PathStat
	root *Root
	last *os.File
}

// Archive opens what is at the path. The archive must be closed; the root must stay open until then.
func (r *Root) Archive(name string) (*Archive, error) {
	last, err := r.openLast(name)
	if err != nil {
		return nil, err
	}
	st, err := r.describe(last, name)
	if err != nil {
		last.Close()
		return nil, err
	}
	return &Archive{Stat: st, root: r, last: last}, nil
}

// Close gives the path back.
func (a *Archive) Close() error { return a.last.Close() }

// WriteTo writes the stream; it ends early with ctx.
func (a *Archive) WriteTo(ctx context.Context, w io.Writer) error {
	t := &tarWriter{ctx: ctx, tar: tar.NewWriter(w), links: map[inode]string{}}
	if err := t.add(a.last, a.Stat.Name); err != nil {
		return err
	}
	return t.tar.Close()
}

// Export writes the whole root, its entries named without a prefix, as docker export does.
func (r *Root) Export(ctx context.Context, w io.Writer) error {
	dir, err := r.open("/", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	t := &tarWriter{ctx: ctx, tar: tar.NewWriter(w), links: map[inode]string{}}
	if err := t.children(dir, ""); err != nil {
		return err
	}
	return t.tar.Close()
}

type inode struct{ dev, ino uint64 }

type tarWriter struct {
	ctx   context.Context
	tar   *tar.Writer
	links map[inode]string // first name of a file that has several
	depth int
}

// maxDepth bounds the descriptors that a hostile tree can make the engine hold open.
const maxDepth = 512

// add writes the entry of f, an O_PATH descriptor, and what is below it.
func (t *tarWriter) add(f *os.File, name string) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK { // has no place in a tar stream
		return nil
	}
	header, err := t.header(f, &st, name)
	if err != nil {
		return fmt.Errorf("archiving %s: %w", name, err)
	}
	switch header.Typeflag {
	case tar.TypeReg:
		return t.addFile(f, header)
	case tar.TypeDir:
		return t.addDir(f, header)
	}
	return t.tar.WriteHeader(header)
}

func (t *tarWriter) header(f *os.File, st *unix.Stat_t, name string) (*tar.Header, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	link := ""
	if info.Mode()&os.ModeSymlink != 0 {
		if link, err = readlinkFd(int(f.Fd()), ""); err != nil {
			return nil, err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return nil, err
	}
	h.Name, h.Format, h.Uname, h.Gname = name, tar.FormatPAX, "", ""
	if info.IsDir() && !strings.HasSuffix(name, "/") {
		h.Name += "/"
	}
	h.AccessTime, h.ChangeTime = zeroTime(), zeroTime()
	if h.Typeflag == tar.TypeReg && st.Nlink > 1 {
		key := inode{uint64(st.Dev), st.Ino}
		if first, seen := t.links[key]; seen {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return h, nil
		}
		t.links[key] = name
	}
	h.PAXRecords = xattrs(f)
	return h, nil
}

// addFile writes exactly as many bytes as the header says, whatever the container does to the file meanwhile.
func (t *tarWriter) addFile(probe *os.File, h *tar.Header) error {
	f, err := reopenRegular(probe, h.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(t.tar, io.LimitReader(f, h.Size))
	if err != nil || n == h.Size {
		return err
	}
	_, err = io.CopyN(t.tar, zeros{}, h.Size-n)
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (t *tarWriter) addDir(probe *os.File, h *tar.Header) error {
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	dir, err := os.OpenFile(procPath(probe), os.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return t.children(dir, h.Name)
}

// children writes what is in an open folder, in the order of names.
func (t *tarWriter) children(dir *os.File, prefix string) error {
	if t.depth++; t.depth > maxDepth {
		return fmt.Errorf("archiving %s: folders are nested deeper than %d", prefix, maxDepth)
	}
	defer func() { t.depth-- }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if err := t.child(dir, name, prefix); err != nil {
			return err
		}
	}
	return nil
}

func (t *tarWriter) child(dir *os.File, name, prefix string) error {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) { // gone meanwhile
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path.Join(prefix, name), Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return t.add(f, prefix+name)
}
