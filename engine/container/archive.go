//go:build linux

package container

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/container/rootfs"
)

// fileView is a container's file system as its processes see it, or would.
type fileView struct {
	root    *rootfs.Root
	release func() // must be called once
}

// viewFiles opens a container's files: through its processes while it runs, else mounted for the time, during which the
// container can be neither started nor removed.
func (s *Service) viewFiles(ctx context.Context, ref string) (*Spec, fileView, error) {
	c, spec, state, unlock, err := s.locked(ctx, ref)
	if err != nil {
		return nil, fileView{}, err
	}
	if state.running() {
		defer unlock()
		root, err := rootfs.OpenProcess(state.PID)
		if err != nil {
			return nil, fileView{}, conflict("container %s is not running", c.id)
		}
		return spec, fileView{root: root, release: func() { root.Close() }}, nil
	}
	view, err := s.mountView(ctx, spec)
	if err != nil {
		unlock()
		return nil, fileView{}, err
	}
	var once sync.Once
	release := view.release
	view.release = func() { once.Do(func() { release(); unlock() }) }
	return spec, view, nil
}

// mountView mounts what a container that does not run would see.
func (s *Service) mountView(ctx context.Context, spec *Spec) (fileView, error) {
	dir, err := s.mountRootFS(ctx, spec.ID)
	if err != nil {
		return fileView{}, err
	}
	unmount := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tearDownTimeout)
		defer cancel()
		if err := s.unmountRootFS(ctx, spec.ID); err != nil {
			s.log.Error("unmounting a container's files", "id", spec.ID, "error", err)
		}
	}
	binds, err := s.viewBinds(ctx, spec)
	if err != nil {
		unmount()
		return fileView{}, err
	}
	p, err := openPrivate(dir, binds, spec.HostConfig.ReadonlyRootfs)
	if err != nil {
		unmount()
		return fileView{}, err
	}
	return fileView{root: p.root, release: func() { p.close(); unmount() }}, nil
}

// fileError words why a path cannot be reached.
func fileError(err error, path, ref string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOTDIR):
		return invalid("not a directory: %s", path)
	case rootfs.IsNotExist(err):
		return notFound("Could not find the file %s in container %s", path, ref)
	case errors.Is(err, rootfs.ErrNotDirectory):
		return invalid("extraction point is not a directory")
	case errors.Is(err, unix.EROFS):
		return forbidden("container rootfs or mounted volume is marked read-only")
	case errors.Is(err, unix.ELOOP):
		return invalid("too many symbolic links: %s", path)
	}
	return err
}

// StatPath describes a file of a container.
func (s *Service) StatPath(ctx context.Context, ref, path string) (container.PathStat, error) {
	if path == "" {
		return container.PathStat{}, invalid("invalid argument: path is empty")
	}
	_, view, err := s.viewFiles(ctx, ref)
	if err != nil {
		return container.PathStat{}, err
	}
	defer view.release()
	st, err := view.root.Stat(path)
	return st, fileError(err, path, ref)
}

// GetArchive returns a tar stream of a file or folder. It must be closed.
func (s *Service) GetArchive(ctx context.Context, ref, path string) (io.ReadCloser, container.PathStat, error) {
	if path == "" {
		return nil, container.PathStat{}, invalid("invalid argument: path is empty")
	}
	spec, view, err := s.viewFiles(ctx, ref)
	if err != nil {
		return nil, container.PathStat{}, err
	}
	archive, err := view.root.Archive(path)
	if err != nil {
		view.release()
		return nil, container.PathStat{}, fileError(err, path, ref)
	}
	s.emit(spec, events.ActionArchivePath)
	r := stream(ctx, archive.WriteTo, func() { archive.Close(); view.release() })
	return r, archive.Stat, nil
}

// streamReader is the reading end of what a goroutine writes; Close ends the goroutine and waits for it.
type streamReader struct {
	*io.PipeReader
	ended chan struct{}
}

func (r *streamReader) Close() error {
	err := r.PipeReader.Close()
	<-r.ended
	return err
}

func stream(ctx context.Context, write func(context.Context, io.Writer) error, release func()) io.ReadCloser {
	r, w := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer release()
		w.CloseWithError(write(ctx, w))
	}()
	return &streamReader{PipeReader: r, ended: ended}
}

// PutArchive unpacks a tar stream in a folder of a container. With copyUIDGID everything belongs to the container's user.
func (s *Service) PutArchive(ctx context.Context, ref, path string, tar io.Reader, noOverwriteDirNonDir, copyUIDGID bool) error {
	if path == "" {
		return invalid("invalid argument: path is empty")
	}
	spec, view, err := s.viewFiles(ctx, ref)
	if err != nil {
		return err
	}
	defer view.release()
	o := rootfs.ExtractOptions{NoOverwriteDirNonDir: noOverwriteDirNonDir}
	if copyUIDGID && spec.Config.User != "" {
		user, err := lookUpUser(view.root, spec.Config.User, nil)
		if err != nil {
			return err
		}
		o.Owner = &rootfs.Owner{UID: int(user.UID), GID: int(user.GID)}
	}
	if err := view.root.Extract(path, tar, o); err != nil {
		return fileError(err, path, ref)
	}
	s.emit(spec, events.ActionExtractToDir)
	return nil
}

// Export writes a container's root filesystem, without its volumes, as a tar stream.
func (s *Service) Export(ctx context.Context, ref string, w io.Writer) error {
	c, spec, state, unlock, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	dir, done := s.rootfs(c.id), func() {}
	if !state.running() {
		if dir, err = s.mountRootFS(ctx, c.id); err != nil {
			unlock()
			return err
		}
		done = func() {
			if err := s.unmountRootFS(context.WithoutCancel(ctx), c.id); err != nil {
				s.log.Error("unmounting a container's files", "id", c.id, "error", err)
			}
			unlock()
		}
	}
	root, err := rootfs.Open(dir)
	if state.running() {
		unlock() // the descriptor keeps the mount, even if the container ends
	}
	defer done()
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Export(ctx, w); err != nil {
		return err
	}
	s.emit(spec, events.ActionExport)
	return nil
}

// Changes lists what differs from the image.
func (s *Service) Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error) {
	c, err := s.reg.find(ref)
	if err != nil {
		return nil, err
	}
	list, err := s.deps.Images.RootFSChanges(ctx, c.id)
	return notNil(list), err
}
