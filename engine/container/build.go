//go:build linux

package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/container/mountspec"
	"github.com/getberth/berth/engine/container/oci"
	"github.com/getberth/berth/engine/container/rootfs"
)

// buildSpec makes the specification of a container whose root filesystem is mounted and whose network is plugged.
func (s *Service) buildSpec(ctx context.Context, spec *Spec, root string, net connected) (*specs.Spec, error) {
	hostname, err := s.hostnameOf(spec)
	if err != nil {
		return nil, err
	}
	files, err := s.writeNetworkFiles(ctx, spec, net, hostname)
	if err != nil {
		return nil, err
	}
	points, err := s.pointMounts(ctx, spec)
	if err != nil {
		return nil, err
	}
	r, err := rootfs.Open(root)
	if err != nil {
		return nil, fmt.Errorf("opening the root filesystem: %w", err)
	}
	defer r.Close()
	user, err := lookUpUser(r, spec.Config.User, spec.HostConfig.GroupAdd)
	if err != nil {
		return nil, err
	}
	in, err := s.ociInput(spec, root, hostname, user, append(filesNotMounted(files, spec.Mounts), points...))
	if err != nil {
		return nil, err
	}
	if err := s.addInit(spec, &in); err != nil {
		return nil, err
	}
	if in.Namespaces.Network == "" {
		in.Namespaces.Network = net.sandbox
	}
	built, err := oci.Build(in)
	if err != nil {
		return nil, invalid("%v", err)
	}
	s.withoutSwap(built.Linux.Resources)
	return built, nil
}

// initPath is where a container finds the init that the engine gives it, as with Docker.
const initPath = "/sbin/docker-init"

// addInit puts an init before the command of a container that wants one. Where pids are shared it would not be the first process.
func (s *Service) addInit(spec *Spec, in *oci.Input) error {
	wanted := spec.HostConfig.Init
	if wanted == nil {
		wanted = &s.cfg.Init
	}
	if !*wanted || !spec.HostConfig.PidMode.IsPrivate() {
		return nil
	}
	program, err := s.deps.Runtime.InitProgram()
	if err != nil {
		return err
	}
	in.Args = append([]string{initPath, "--"}, in.Args...)
	in.Mounts = append(in.Mounts, oci.BindFile(program, initPath, true))
	return nil
}

// withoutSwap: where the kernel does not account for swap there is no file to write a limit to.
func (s *Service) withoutSwap(r *specs.LinuxResources) {
	if !s.sys.swap && r.Memory != nil {
		r.Memory.Swap = nil
	}
}

func (s *Service) ociInput(spec *Spec, root, hostname string, user specs.User, mounts []specs.Mount) (oci.Input, error) {
	c, hc := spec.Config, *spec.HostConfig
	hc.SecurityOpt = s.securityOptions(hc.SecurityOpt)
	in := oci.Input{
		ID: spec.ID, RootFS: root, Args: spec.Args, Env: environment(hostname, c.Tty, c.Env), Dir: c.WorkingDir,
		User: user, TTY: c.Tty, Hostname: hostname, Domainname: c.Domainname, HostConfig: &hc, Mounts: mounts,
		CgroupPath: oci.CgroupPath(hc.CgroupParent, spec.ID), CgroupV2: s.sys.v2, Rlimits: s.cfg.Ulimits, Host: s.host,
	}
	var err error
	if hc.PidMode.IsContainer() {
		in.Namespaces.PID, _, err = s.namespaceOf(hc.PidMode.Container(), "pid")
	}
	if hc.NetworkMode.IsContainer() && err == nil {
		in.Namespaces.Network, _, err = s.namespaceOf(hc.NetworkMode.ConnectedContainer(), "net")
	}
	if hc.IpcMode.IsContainer() && err == nil {
		in.Namespaces.IPC, in.ShmPath, err = s.sharedIPC(hc.IpcMode.Container())
	}
	if hc.IpcMode.IsShareable() && err == nil {
		in.ShmPath, err = s.makeShm(spec)
	}
	return in, err
}

// securityOptions puts the engine's defaults before the container's own.
func (s *Service) securityOptions(own []string) []string {
	var list []string
	if s.cfg.NoNewPrivileges {
		list = append(list, "no-new-privileges")
	}
	if s.cfg.SeccompProfile != "" {
		list = append(list, "seccomp="+s.cfg.SeccompProfile)
	}
	return append(list, own...)
}

// namespaceOf is the path of a running container's namespace.
func (s *Service) namespaceOf(ref, kind string) (path string, spec *Spec, err error) {
	_, spec, state, err := s.find(ref)
	if err != nil {
		return "", nil, err
	}
	if !state.running() {
		kind = map[string]string{"pid": "PID", "ipc": "IPC", "net": "network"}[kind]
		return "", nil, system("failed to join %s namespace: cannot join %[1]s namespace of a non running container: container %s is not running",
			kind, spec.ID)
	}
	return fmt.Sprintf("/proc/%d/ns/%s", state.PID, kind), spec, nil
}

func (s *Service) sharedIPC(ref string) (namespace, shm string, err error) {
	namespace, other, err := s.namespaceOf(ref, "ipc")
	if err != nil {
		return "", "", err
	}
	if !other.HostConfig.IpcMode.IsShareable() {
		return "", "", conflict("can't join IPC of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", other.Name)
	}
	return namespace, s.shmPath(other.ID), nil
}

// makeShm mounts a /dev/shm that others can join.
func (s *Service) makeShm(spec *Spec) (string, error) {
	path := s.shmPath(spec.ID)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", err
	}
	size := spec.HostConfig.ShmSize
	if size <= 0 {
		size = oci.DefaultShmSize
	}
	err := unix.Mount("shm", path, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=1777,size=%d", size))
	if err != nil {
		return "", fmt.Errorf("mounting shm of container %s: %w", spec.Name, err)
	}
	return path, nil
}

// detachMount unmounts what is mounted at path; no error when nothing is.
func detachMount(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// pointMounts makes the mounts that were asked for: sources of the host exist afterwards, volumes are in use.
func (s *Service) pointMounts(ctx context.Context, spec *Spec) ([]specs.Mount, error) {
	list := make([]specs.Mount, 0, len(spec.Mounts))
	for i, p := range spec.Mounts {
		source := p.Source
		switch p.Type {
		case mount.TypeBind:
			if err := makeSource(p); err != nil {
				return nil, err
			}
		case mount.TypeVolume:
			var err error
			if source, err = s.volumeSource(ctx, spec, i); err != nil {
				return nil, err
			}
		case mount.TypeImage:
			var err error
			if source, err = s.imageSource(ctx, spec, i); err != nil {
				return nil, err
			}
		}
		list = append(list, oci.PointMount(p, source))
	}
	return list, nil
}

// volumeSource is the folder to bind for a volume. A part of one is mounted beside the root filesystem by its descriptor, so
// that no symlink in the volume, however fast it is swapped, leads out of it.
func (s *Service) volumeSource(ctx context.Context, spec *Spec, i int) (string, error) {
	p := spec.Mounts[i]
	dir, err := s.deps.Volumes.Use(ctx, p.Name, spec.ID)
	if err != nil || p.Subpath == "" {
		return dir, err
	}
	part, err := openPart(dir, p)
	if err != nil {
		return "", err
	}
	defer part.Close()
	target := fmt.Sprintf("%s.%d", s.rootfs(spec.ID), i)
	return target, bindDescriptor(part, target)
}

// openPart opens a part of a volume, which must not lie outside, by a link that someone has put there.
func openPart(dir string, p mountspec.Point) (*os.File, error) {
	part, err := rootfs.OpenBeneath(dir, p.Subpath)
	if errors.Is(err, unix.EXDEV) {
		return nil, invalid("path concatenation escapes the base directory, base: %s, subpath: %s", dir, p.Subpath)
	}
	if err != nil {
		return nil, invalid("cannot access path %s of volume %s: %v", p.Subpath, p.Name, err)
	}
	return part, nil
}

func bindDescriptor(f *os.File, target string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o700)
	} else {
		err = overwrite(target, nil)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mounting a part of a volume: %w", err)
	}
	return nil
}

// filesNotMounted leaves out the engine's files where the user mounts one of their own.
func filesNotMounted(files []specs.Mount, points []mountspec.Point) []specs.Mount {
	return slices.DeleteFunc(slices.Clone(files), func(f specs.Mount) bool {
		return slices.ContainsFunc(points, func(p mountspec.Point) bool { return p.Destination == f.Destination })
	})
}
