package api

import (
	"context"
	"io"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/getberth/berth/engine/filter"

	ctr "github.com/getberth/berth/engine/container"
	img "github.com/getberth/berth/engine/image"
)

// The services behind the HTTP API. Errors carry a kind of containerd/errdefs, mapped to a status in one place, and their text
// is what the client prints. Results are of the newest API version; the handlers trim them for older ones.

// Containers is implemented by engine/container.
type Containers interface {
	Create(ctx context.Context, name string, req container.CreateRequest, platform *ocispec.Platform) (container.CreateResponse, error)
	Start(ctx context.Context, ref string) error
	Stop(ctx context.Context, ref string, o ctr.StopOptions) error
	Restart(ctx context.Context, ref string, o ctr.StopOptions) error
	Kill(ctx context.Context, ref, signal string) error
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
	Remove(ctx context.Context, ref string, o ctr.RemoveOptions) error
	Rename(ctx context.Context, ref, name string) error
	Update(ctx context.Context, ref string, u container.UpdateConfig) (container.UpdateResponse, error)
	Prune(ctx context.Context, f filter.Args) (container.PruneReport, error)
	List(ctx context.Context, o ctr.ListOptions) ([]container.Summary, error)
	Inspect(ctx context.Context, ref string, size bool) (container.InspectResponse, error)
	Top(ctx context.Context, ref, psArgs string) (container.TopResponse, error)
	Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error)
	Stats(ctx context.Context, ref string, stream, oneShot bool, emit func(container.StatsResponse) error) error
	// Wait registers the wait before it returns, so that the handler can send its headers; the channel gets one result.
	Wait(ctx context.Context, ref string, condition container.WaitCondition) (<-chan ctr.WaitResult, error)
	Attach(ctx context.Context, ref string, o ctr.AttachOptions, open ctr.Opener) error
	Logs(ctx context.Context, ref string, o ctr.LogsOptions, open ctr.Opener) error
	Resize(ctx context.Context, ref string, width, height uint16) error
	Export(ctx context.Context, ref string, w io.Writer) error
	Commit(ctx context.Context, ref string, o ctr.CommitOptions) (id string, err error)

	StatPath(ctx context.Context, ref, path string) (container.PathStat, error)
	GetArchive(ctx context.Context, ref, path string) (io.ReadCloser, container.PathStat, error)
	PutArchive(ctx context.Context, ref, path string, tar io.Reader, noOverwriteDirNonDir, copyUIDGID bool) error

	ExecCreate(ctx context.Context, ref string, req container.ExecCreateRequest) (id string, err error)
	ExecStart(ctx context.Context, id string, o ctr.ExecStartOptions, open ctr.Opener) error
	ExecResize(ctx context.Context, id string, width, height uint16) error
	ExecInspect(ctx context.Context, id string) (container.ExecInspectResponse, error)

	ConnectNetwork(ctx context.Context, networkRef, ref string, want *network.EndpointSettings) error
	DisconnectNetwork(ctx context.Context, networkRef, ref string, force bool) error
}

// Images is implemented by engine/image.
type Images interface {
	// Pull streams progress; errors after the first message are returned, and sent by the handler in the stream.
	Pull(ctx context.Context, ref string, platform *ocispec.Platform, auth *registry.AuthConfig, progress img.Progress) error
	Push(ctx context.Context, ref string, platform *ocispec.Platform, auth *registry.AuthConfig, progress img.Progress) error
	// Load and Save take all platforms when only is empty.
	Load(ctx context.Context, tar io.Reader, only []ocispec.Platform, progress img.Progress) error
	Save(ctx context.Context, refs []string, only []ocispec.Platform, w io.Writer) error
	// Download opens a URL, or what is left of one without its scheme, for Import.
	Download(ctx context.Context, source string) (io.ReadCloser, error)
	Import(ctx context.Context, tar io.Reader, ref, message string, changes []string, platform *ocispec.Platform) (id string, err error)
	List(ctx context.Context, o img.ListOptions) ([]image.Summary, error)
	Inspect(ctx context.Context, ref string, platform *ocispec.Platform) (image.InspectResponse, error)
	History(ctx context.Context, ref string, platform *ocispec.Platform) ([]image.HistoryResponseItem, error)
	Tag(ctx context.Context, source, target string) error
	Remove(ctx context.Context, ref string, o img.RemoveOptions) ([]image.DeleteResponse, error)
	Prune(ctx context.Context, f filter.Args) (image.PruneReport, error)
	// Login checks credentials against a registry.
	Login(ctx context.Context, auth registry.AuthConfig) (registry.AuthResponse, error)
}

// Networks is implemented by engine/network. Connecting and disconnecting go through Containers, which holds the locks.
type Networks interface {
	List(ctx context.Context, f filter.Args) ([]network.Summary, error)
	Inspect(ctx context.Context, ref string) (network.Inspect, error)
	Create(ctx context.Context, req network.CreateRequest) (network.CreateResponse, error)
	Remove(ctx context.Context, ref string) error
	Prune(ctx context.Context, f filter.Args) (network.PruneReport, error)
}

// Volumes is implemented by engine/volume.
type Volumes interface {
	List(ctx context.Context, f filter.Args) (volume.ListResponse, error)
	Inspect(ctx context.Context, name string) (volume.Volume, error)
	Create(ctx context.Context, req volume.CreateRequest) (volume.Volume, error)
	Remove(ctx context.Context, name string, force bool) error
	Prune(ctx context.Context, f filter.Args) (volume.PruneReport, error)
}

// System is implemented by the engine's wiring.
type System interface {
	Info(ctx context.Context) (system.Info, error)
	Version(ctx context.Context) (system.VersionResponse, error)
	DiskUsage(ctx context.Context, kinds []string, verbose bool) (system.DiskUsage, error)
}

// Events is implemented by engine/events.
type Events interface {
	Publish(events.Message)
	// Subscribe returns past events since the given time and a channel of those to come; cancel ends it.
	Subscribe(f filter.Args) (past []events.Message, next <-chan events.Message, cancel func())
}
