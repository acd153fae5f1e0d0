//go:build linux

package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/container/rootfs"
)

// viewBind is one mount of a private view.
type viewBind struct {
	source, dest string
	readonly     bool
}

// viewBinds are a container's binds and volumes, parents first.
func (s *Service) viewBinds(ctx context.Context, spec *Spec) ([]viewBind, error) {
	var list []viewBind
	for i, p := range spec.Mounts {
		source := p.Source
		switch p.Type {
		case mount.TypeVolume:
			var err error
			if source, err = s.volumeSource(ctx, spec, i); err != nil {
				return nil, err
			}
		case mount.TypeBind:
			if !fileExists(source) {
				continue
			}
		default:
			continue
		}
		list = append(list, viewBind{source: source, dest: p.Destination, readonly: p.ReadOnly})
	}
	slices.SortStableFunc(list, func(a, b viewBind) int { return strings.Count(a.dest, "/") - strings.Count(b.dest, "/") })
	return list, nil
}

// privateView is a root folder with mounts on top that exist for one thread only: nobody else sees them, and nothing is left
// when the engine dies.
type privateView struct {
	root *rootfs.Root
	end  chan struct{}
	gone chan struct{}
}

func openPrivate(dir string, binds []viewBind, readonly bool) (*privateView, error) {
	v := &privateView{end: make(chan struct{}), gone: make(chan struct{})}
	if len(binds) == 0 && !readonly {
		root, err := rootfs.Open(dir)
		v.root = root
		close(v.gone)
		return v, err
	}
	ready := make(chan error, 1)
	go func() {
		defer close(v.gone)
		runtime.LockOSThread() // never unlocked: the thread, and with it the mounts, ends with the goroutine
		root, err := privateMounts(dir, binds, readonly)
		v.root = root
		ready <- err
		if err == nil {
			<-v.end
		}
	}()
	return v, <-ready
}

func (v *privateView) close() {
	v.root.Close()
	close(v.end)
	<-v.gone
}

// privateMounts gives the calling thread a mount namespace of its own and mounts binds below dir.
func privateMounts(dir string, binds []viewBind, readonly bool) (*rootfs.Root, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("making the mounts private: %w", err)
	}
	root, err := rootfs.Open(dir)
	if err != nil {
		return nil, err
	}
	for _, b := range binds {
		if err := bindBelow(root, b); err != nil {
			return nil, errors.Join(fmt.Errorf("mounting %s: %w", b.dest, err), root.Close())
		}
	}
	if readonly {
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return nil, errors.Join(fmt.Errorf("making the root read-only: %w", err), root.Close())
		}
	}
	return root, nil
}

// bindBelow mounts at a place in the root, which is made as it would be at the start. A file's place is not made.
func bindBelow(root *rootfs.Root, b viewBind) error {
	info, err := os.Stat(b.source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if err := root.MkdirAll(b.dest, 0o755); err != nil {
			return err
		}
	}
	place, err := root.OpenPath(b.dest)
	if rootfs.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer place.Close()
	// "self" would be the thread group's view; this thread's mounts are its own.
	target := fmt.Sprintf("/proc/thread-self/fd/%d", place.Fd())
	if err := unix.Mount(b.source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if !b.readonly {
		return nil
	}
	mounted, err := root.OpenPath(b.dest)
	if err != nil {
		return err
	}
	defer mounted.Close()
	return unix.Mount("", fmt.Sprintf("/proc/thread-self/fd/%d", mounted.Fd()), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
}
