package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pkg/sftp"

	"github.com/getberth/berth/machine"
	"github.com/getberth/berth/sshutil"
)

// place is one end of a copy: the files here, or those of a machine.
type place interface {
	stat(name string) (fs.FileInfo, error)
	list(dir string) ([]fs.FileInfo, error)
	glob(pattern string) ([]string, error)
	open(name string) (io.ReadCloser, error)
	create(name string, mode fs.FileMode) (io.WriteCloser, error)
	mkdir(name string, mode fs.FileMode) error
	join(dir, name string) string
	base(name string) string
	// valid refuses a name that does not stay in its folder.
	valid(name string) bool
	label() string
	close()
}

func openPlace(ctx context.Context, m *machine.Manager, l location) (place, error) {
	if l.machine == "" {
		return here{}, nil
	}
	c, err := m.Dial(ctx, l.machine, l.user)
	if err != nil {
		return nil, err
	}
	s, err := c.SFTP(ctx)
	if err != nil {
		c.Close()
		return nil, err
	}
	// Closing is what ends a transfer that waits for the machine.
	stop := context.AfterFunc(ctx, func() { c.Close() })
	return &there{name: l.machine, ssh: c, sftp: s, stop: stop}, nil
}

// here are the files of this computer.
type here struct{}

func (here) stat(name string) (fs.FileInfo, error)   { return os.Stat(name) }
func (here) open(name string) (io.ReadCloser, error) { return os.Open(name) }
func (here) glob(string) ([]string, error)           { return nil, nil } // the shell did that
func (here) join(dir, name string) string            { return filepath.Join(dir, name) }
func (here) base(name string) string                 { return filepath.Base(name) }
func (here) label() string                           { return "" }
func (here) close()                                  {}

func (here) valid(name string) bool {
	return validName(name) && !strings.ContainsRune(name, os.PathSeparator) && filepath.IsLocal(name)
}

func (here) list(dir string) ([]fs.FileInfo, error) {
	entries, err := os.ReadDir(dir)
	var infos []fs.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, err
}

func (here) create(name string, mode fs.FileMode) (io.WriteCloser, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode.Perm())
}

func (here) mkdir(name string, mode fs.FileMode) error {
	// Writable until it is filled; a folder that nobody may write into is rare, and this is what scp does.
	return os.Mkdir(name, mode.Perm()|0o700)
}

// there are the files of a machine.
type there struct {
	name string
	ssh  *sshutil.Client
	sftp *sftp.Client
	stop func() bool
}

// home: relative paths start in the user's home; sftp does not know "~".
func home(name string) string {
	if name == "~" || name == "" {
		return "."
	}
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		return path.Join(".", rest)
	}
	return name
}

func (t *there) stat(name string) (fs.FileInfo, error)   { return t.sftp.Stat(home(name)) }
func (t *there) list(dir string) ([]fs.FileInfo, error)  { return t.sftp.ReadDir(home(dir)) }
func (t *there) glob(pattern string) ([]string, error)   { return t.sftp.Glob(home(pattern)) }
func (t *there) open(name string) (io.ReadCloser, error) { return t.sftp.Open(home(name)) }
func (t *there) join(dir, name string) string            { return path.Join(home(dir), name) }
func (t *there) base(name string) string                 { return path.Base(home(name)) }
func (t *there) label() string                           { return t.name + ":" }
func (t *there) valid(name string) bool                  { return validName(name) }

func (t *there) create(name string, mode fs.FileMode) (io.WriteCloser, error) {
	f, err := t.sftp.OpenFile(home(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(mode.Perm()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (t *there) mkdir(name string, mode fs.FileMode) error {
	if err := t.sftp.Mkdir(home(name)); err != nil {
		return err
	}
	return t.sftp.Chmod(home(name), mode.Perm()|0o700)
}

func (t *there) close() {
	t.stop()
	t.sftp.Close()
	t.ssh.Close()
}

// validName: a hostile machine must not choose where files land (CVE-2019-6111 of OpenSSH's scp).
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// maxDepth bounds recursion: links are followed, as scp does, and may form a ring.
const maxDepth = 64

// copier copies files from one place to another.
type copier struct {
	src, dst  place
	recursive bool
	progress  func(name string, size int64)
}

// copyArg copies what one argument names; intoDir demands that the target is a folder.
func (c *copier) copyArg(from, to string, intoDir bool) error {
	names := []string{from}
	if _, err := c.src.stat(from); errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(from, "*?[") {
		if found, err := c.src.glob(from); err == nil && len(found) > 0 {
			names = found
		}
	}
	target, err := c.dst.stat(to)
	isDir := err == nil && target.IsDir()
	if !isDir && (intoDir || len(names) > 1) {
		return fmt.Errorf("%s%s: it is not a folder", c.dst.label(), to)
	}
	for _, name := range names {
		dest := to
		if isDir {
			base := c.src.base(name)
			if base == "." || base == ".." || base == "/" {
				base = "" // the contents go right into the target
			}
			dest = c.dst.join(to, base)
		}
		if err := c.copy(name, dest, 0); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) copy(from, to string, depth int) error {
	info, err := c.src.stat(from)
	if err != nil {
		return fmt.Errorf("%s%s: %w", c.src.label(), from, err)
	}
	switch {
	case info.IsDir() && !c.recursive:
		return fmt.Errorf("%s%s is a folder: to copy it, use -r", c.src.label(), from)
	case info.IsDir() && depth >= maxDepth:
		return fmt.Errorf("%s%s: more than %d folders deep", c.src.label(), from, maxDepth)
	case info.IsDir():
		return c.copyDir(from, to, info.Mode(), depth)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s%s is no regular file", c.src.label(), from)
	}
	return c.copyFile(from, to, info)
}

func (c *copier) copyDir(from, to string, mode fs.FileMode, depth int) error {
	if target, err := c.dst.stat(to); err != nil {
		if err := c.dst.mkdir(to, mode); err != nil {
			return fmt.Errorf("%s%s: %w", c.dst.label(), to, err)
		}
	} else if !target.IsDir() {
		return fmt.Errorf("%s%s: it is not a folder", c.dst.label(), to)
	}
	entries, err := c.src.list(from)
	if err != nil {
		return fmt.Errorf("%s%s: %w", c.src.label(), from, err)
	}
	for _, e := range entries {
		if !c.dst.valid(e.Name()) {
			return fmt.Errorf("%s%s: a file there is called %q, which cannot be copied safely", c.src.label(), from, e.Name())
		}
		if err := c.copy(c.src.join(from, e.Name()), c.dst.join(to, e.Name()), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) copyFile(from, to string, info fs.FileInfo) error {
	r, err := c.src.open(from)
	if err != nil {
		return fmt.Errorf("%s%s: %w", c.src.label(), from, err)
	}
	defer r.Close()
	w, err := c.dst.create(to, info.Mode())
	if err != nil {
		return fmt.Errorf("%s%s: %w", c.dst.label(), to, err)
	}
	n, err := io.Copy(w, r)
	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("copying %s%s: %w", c.src.label(), from, err)
	}
	c.progress(c.src.base(from), n)
	return nil
}
