package container

import (
	"context"
	"net/netip"

	"github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/getberth/berth/engine/runtime/shim"
)

// Images is what a container needs of the image store. RootFS methods take the container id as key.
type Images interface {
	// Config resolves a reference, an id or an unambiguous id prefix. platform may be nil.
	// The error is errdefs.ErrNotFound, worded as Docker's "No such image: REF", when there is none.
	Config(ctx context.Context, ref string, platform *ocispec.Platform) (id string, config v1.DockerOCIImage, err error)
	// PrepareRootFS makes the writable layer on top of imageID. Preparing one that exists is errdefs.ErrAlreadyExists.
	PrepareRootFS(ctx context.Context, key, imageID string, platform *ocispec.Platform) error
	// MountRootFS mounts the layers at target, an existing folder; mounting what is mounted is no error.
	MountRootFS(ctx context.Context, key, target string) error
	UnmountRootFS(ctx context.Context, target string) error // no error when not mounted
	RemoveRootFS(ctx context.Context, key string) error     // no error when absent
	// PrepareView keeps an image as it is for a mount of it, until RemoveView; MountView mounts it, and UnmountRootFS undoes that.
	PrepareView(ctx context.Context, key, ref string, platform *ocispec.Platform) (id string, err error)
	MountView(ctx context.Context, key, target string) error
	RemoveView(ctx context.Context, key string) error // no error when absent
	RootFSSize(ctx context.Context, key string) (rw, total int64, err error)
	RootFSChanges(ctx context.Context, key string) ([]container.FilesystemChange, error)
	// CommitRootFS makes an image of the writable layer; ref may be empty. It returns the new image's id.
	CommitRootFS(ctx context.Context, key, ref string, config v1.DockerOCIImage) (id string, err error)
}

// Networks is what a container needs of the network service. All methods are idempotent.
type Networks interface {
	// Resolve finds a network by name, id or id prefix; errdefs.ErrNotFound says "network X not found".
	// The name "default" is "bridge".
	Resolve(ctx context.Context, ref string) (id, name, driver string, err error)
	// CreateSandbox makes the network namespace of a container, loopback up, and returns its path. It outlives the engine.
	CreateSandbox(ctx context.Context, containerID string) (path string, err error)
	// Connect plugs a sandbox into a network: interface, address, routes, names. want may be nil; names are the container's
	// name, short id, aliases. The result is the operational endpoint, to be shown by inspect.
	Connect(ctx context.Context, containerID, networkRef string, want *network.EndpointSettings, names []string) (*network.EndpointSettings, error)
	Disconnect(ctx context.Context, containerID, networkRef string, force bool) error
	// Publish opens ports of the host; a HostPort that is empty or "0" or a range is given a free port. What was published
	// before for this container is replaced. errdefs.ErrConflict says "port is already allocated", as Docker words it.
	Publish(ctx context.Context, containerID string, want network.PortMap) (network.PortMap, error)
	// DeleteSandbox unpublishes, disconnects and removes the namespace.
	DeleteSandbox(ctx context.Context, containerID string) error
	// Recover is called once at start with the containers that still run: theirs is kept, every other sandbox is removed.
	Recover(ctx context.Context, running []string) error
	// ResolvConf is the content of the container's /etc/resolv.conf.
	ResolvConf(ctx context.Context, containerID string, servers []netip.Addr, search, options []string) ([]byte, error)
}

// Volumes is what a container needs of the volume service.
type Volumes interface {
	// Create is idempotent for the same driver; an empty name makes an anonymous volume (label com.docker.volume.anonymous).
	Create(ctx context.Context, req volume.CreateRequest) (volume.Volume, error)
	// Use takes a reference for a container, so that the volume cannot be removed, and returns the folder to bind.
	Use(ctx context.Context, name, containerID string) (path string, err error)
	Release(ctx context.Context, name, containerID string) error
	Remove(ctx context.Context, name string, force bool) error
}

// Runtime runs containers, each under a supervisor of its own that outlives the engine.
type Runtime interface {
	// InitProgram is the path of a program that runs the command in its arguments as the first process of a container should.
	InitProgram() (path string, err error)
	// Create starts a supervisor and makes the container; its first process waits for Start.
	Create(ctx context.Context, c shim.Create) error
	Start(ctx context.Context, id string) (pid int, err error)
	// Attach connects a client and returns when its streams have ended. It may be called between Create and Start, and
	// then misses nothing; attached is closed once output can no longer be missed.
	Attach(ctx context.Context, id string, s shim.Streams, attached chan<- struct{}) error
	// Exec runs a process to its end; started receives its pid. Cancelling ctx leaves the process running, without streams.
	Exec(ctx context.Context, id string, e shim.Exec, s shim.Streams, started func(pid int)) (code int, err error)
	Signal(ctx context.Context, id string, signal int) error
	// Resize sets the terminal size of the first process, or of an exec when execID is not empty.
	Resize(ctx context.Context, id, execID string, width, height uint16) error
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	Update(ctx context.Context, id string, r *specs.LinuxResources) error
	Stats(ctx context.Context, id string) (container.StatsResponse, error) // without names, networks and the previous sample
	Processes(ctx context.Context, id string) (pids []int, err error)
	// Wait returns when the first process has ended, at once if it has already, also for a container found by recovery.
	Wait(ctx context.Context, id string) (shim.Exit, error)
	// WatchOOM calls told each time that a running container has run out of memory, until ctx ends or the container has.
	WatchOOM(ctx context.Context, id string, told func()) error
	// State tells what is left of a container, whether or not its supervisor lives.
	State(ctx context.Context, id string) (shim.State, error)
	// Delete ends whatever is left: processes, cgroup, supervisor, bundle. No error when there is nothing.
	Delete(ctx context.Context, id string) error
}

// Events takes what happened; it never blocks.
type Events interface {
	Publish(events.Message)
}
