//go:build linux

package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sync/errgroup"

	"github.com/getberth/berth/engine/api"
	"github.com/getberth/berth/engine/config"
	ctr "github.com/getberth/berth/engine/container"
	"github.com/getberth/berth/engine/events"
	img "github.com/getberth/berth/engine/image"
	"github.com/getberth/berth/engine/network"
	"github.com/getberth/berth/engine/network/ipam"
	"github.com/getberth/berth/engine/runtime"
	"github.com/getberth/berth/engine/volume"
)

// Build says what this program was made of.
type Build struct {
	Version    string
	Commit     string
	Time       string // RFC 3339; may be empty
	Containerd string // version of the library
}

// Options are what an engine needs to run.
type Options struct {
	Config config.Config // complete and valid; see config.Config.WithDefaults
	Build  Build
	Log    *slog.Logger
	Ready  func() // called once the API answers; may be nil
	// Halting is asked when ctx has ended: true means that the machine goes down, so that containers are stopped. May be nil.
	Halting func() bool
	// Reload gives a new configuration, of which what can change while the engine runs is taken over. May be nil.
	Reload <-chan config.Config
}

// Run runs an engine until ctx ends. Containers go on when it returns, unless o.Halting says otherwise.
func Run(ctx context.Context, o Options) error {
	lock, err := claim(o.Config)
	if err != nil {
		return err
	}
	defer release(o.Config, lock)
	listeners, err := listen(o.Config, o.Log)
	if err != nil {
		return err
	}
	defer closeAll(listeners)
	e := &engine{o: o, cfg: o.Config, log: o.Log, events: events.New()}
	e.reloaded.Store(&e.cfg)
	defer e.close()
	if err := e.open(ctx); err != nil {
		return err
	}
	err = e.serve(ctx, listeners)
	if o.Halting != nil && o.Halting() || !e.current().ContainersStay() {
		e.stopContainers()
	}
	return err
}

// haltPatience bounds the orderly end of all containers, whose own time to stop is 10 s unless they ask for more.
const haltPatience = 25 * time.Second

// stopContainers ends all containers because their machine goes down, or since they are not to go on without an engine; those with a restart policy come back with it.
func (e *engine) stopContainers() {
	ctx, cancel := context.WithTimeout(context.Background(), haltPatience)
	defer cancel()
	e.containers.Shutdown(ctx)
}

// claim makes the folders and keeps every other engine out of them.
func claim(c config.Config) (*flock.Flock, error) {
	for dir, mode := range map[string]os.FileMode{c.DataRoot: 0o711, c.ExecRoot: 0o711} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return nil, err
		}
	}
	lock, err := lockRoot(c.DataRoot)
	if err != nil {
		return nil, err
	}
	if err := writePID(c.PIDFile); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return lock, nil
}

func release(c config.Config, lock *flock.Flock) {
	_ = os.Remove(c.PIDFile)
	_ = lock.Unlock()
}

// engine is all services that are open.
type engine struct {
	o   Options
	cfg config.Config
	log *slog.Logger

	events     *events.Service
	images     *img.Service
	volumes    *volume.Service
	networks   *network.Service
	runtime    *runtime.Service
	runc       func() string // version of the library in the supervisor
	containers *ctr.Service
	host       host
	ports      *portsWriter // nil without a channel
	stopPorts  context.CancelFunc
	portsDone  chan struct{}
	reloaded   atomic.Pointer[config.Config] // cfg, with what was reloaded
}

// current is the configuration as it is by now.
func (e *engine) current() config.Config { return *e.reloaded.Load() }

// open opens the services in the order in which they need each other, and takes over the containers that run. Images wait for
// the disk, networks for the kernel: they open side by side.
func (e *engine) open(ctx context.Context) (err error) {
	began := time.Now()
	if e.host, err = inspectHost(e.cfg.DataRoot); err != nil {
		return err
	}
	steps := []func(context.Context) error{
		e.openPorts, sideBySide(e.openImages, e.openVolumes, e.openNetworks, e.openRuntime), e.openContainers,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
		e.log.Debug("opening", "so far", time.Since(began))
	}
	e.log.Info("engine open", "version", e.o.Build.Version, "data-root", e.cfg.DataRoot, "storage", e.images.Snapshotter(),
		"took", time.Since(began).Round(time.Millisecond))
	return nil
}

// sideBySide makes one step of several that do not need each other. All have ended when it has.
func sideBySide(steps ...func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		var group errgroup.Group
		for _, step := range steps {
			group.Go(func() error { return step(ctx) })
		}
		return group.Wait()
	}
}

func (e *engine) openPorts(ctx context.Context) (err error) {
	if e.cfg.PortsChannel == "" {
		return nil
	}
	if e.ports, err = openPorts(e.cfg.PortsChannel, e.log); err != nil {
		return err
	}
	ctx, e.stopPorts = context.WithCancel(context.WithoutCancel(ctx))
	e.portsDone = make(chan struct{})
	go func() {
		defer close(e.portsDone)
		e.ports.run(ctx)
	}()
	return nil
}

func (e *engine) openImages(ctx context.Context) (err error) {
	e.images, err = img.Open(ctx, img.Config{
		Root:          filepath.Join(e.cfg.DataRoot, "image"),
		Settings:      imageSettings(e.cfg),
		StorageDriver: e.cfg.StorageDriver,
		UserAgent:     "berth/" + e.o.Build.Version,
		Events:        e.events,
		InUse:         e.usersOf,
	})
	return err
}

func imageSettings(c config.Config) img.Settings {
	return img.Settings{
		Mirrors: c.RegistryMirrors, InsecureRegistries: c.InsecureRegistries,
		Downloads: c.MaxConcurrentDownloads, Uploads: c.MaxConcurrentUploads, Attempts: c.MaxDownloadAttempts,
	}
}

// usersOf are the containers of an image. There are none while the engine opens.
func (e *engine) usersOf(imageID string) []img.User {
	if e.containers == nil {
		return nil
	}
	all, err := e.containers.List(context.Background(), ctr.ListOptions{All: true})
	if err != nil {
		e.log.Error("listing the containers of an image", "error", err)
	}
	var users []img.User
	for _, c := range all {
		if c.ImageID == imageID || mounts(c, imageID) {
			users = append(users, img.User{ID: c.ID, Ref: c.Image, Running: isActive(c.State)})
		}
	}
	return users
}

// mounts says whether a container has an image mounted.
func mounts(c container.Summary, imageID string) bool {
	return slices.ContainsFunc(c.Mounts, func(m container.MountPoint) bool { return m.Type == mount.TypeImage && m.Source == imageID })
}

func isActive(s container.ContainerState) bool {
	return s == container.StateRunning || s == container.StatePaused || s == container.StateRestarting
}

func (e *engine) openVolumes(context.Context) (err error) {
	e.volumes, err = volume.Open(volume.Config{Root: e.cfg.DataRoot, Events: e.events})
	return err
}

func (e *engine) openNetworks(ctx context.Context) (err error) {
	servers, err := addresses(e.cfg.DNS)
	if err != nil {
		return err
	}
	c := network.Config{
		Root: e.cfg.DataRoot, ExecRoot: e.cfg.ExecRoot, Bridge: e.cfg.Bridge, BIP: e.cfg.BIP, Within: e.cfg.FixedCIDR,
		MTU: e.cfg.MTU, ICC: e.cfg.ICC, IPMasq: e.cfg.IPMasq, IP: e.cfg.IP, Pools: ranges(e.cfg.AddressPools),
		IPTables: e.cfg.IPTables, UserlandProxy: e.cfg.UserlandProxy,
		DNS: servers, DNSSearch: e.cfg.DNSSearch, DNSOptions: e.cfg.DNSOptions, Events: e.events, Log: e.log,
	}
	if e.cfg.PortsRelay != "" {
		if c.Relay, err = netip.ParseAddr(e.cfg.PortsRelay); err != nil {
			return fmt.Errorf("ports relay: %w", err)
		}
	}
	if e.ports != nil {
		c.PortsChanged = e.ports.changed
	}
	if c.Guard, err = guarded(e.cfg); err != nil {
		return err
	}
	e.networks, err = network.Open(ctx, c)
	return err
}

func ranges(pools config.Pools) (all []ipam.Range) {
	for _, p := range pools {
		all = append(all, ipam.Range{Base: p.Base, Size: p.Size})
	}
	return all
}

// guarded are the TCP ports on which containers would find the engine; those of the loopback they cannot reach.
func guarded(c config.Config) (ports []uint16, err error) {
	listeners, err := c.Listeners()
	for _, l := range listeners {
		if !l.Loopback() {
			ports = append(ports, l.Port())
		}
	}
	return ports, err
}

func addresses(texts []string) (all []netip.Addr, err error) {
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("dns: %w", err)
		}
		all = append(all, a)
	}
	return all, nil
}

func (e *engine) openRuntime(context.Context) (err error) {
	if e.runtime, err = runtime.New(runtime.Config{ExecRoot: e.cfg.ExecRoot, Root: e.cfg.DataRoot}); err != nil {
		return err
	}
	e.runc = sync.OnceValue(e.runtime.Libcontainer) // takes reading the whole supervisor
	return nil
}

func (e *engine) openContainers(ctx context.Context) (err error) {
	c, err := e.containerConfig()
	if err != nil {
		return err
	}
	e.containers, err = ctr.New(c, ctr.Deps{Images: e.images, Networks: e.networks, Volumes: e.volumes, Runtime: e.runtime, Events: e.events})
	if err != nil {
		return err
	}
	if err := e.containers.Recover(ctx); err != nil {
		return fmt.Errorf("taking over containers: %w", err)
	}
	if e.ports != nil {
		e.ports.repeat() // what was published when the last engine ended may be no more
	}
	return nil
}

// handler is the API over the services.
func (e *engine) handler() http.Handler {
	return api.New(api.Options{
		Backends: api.Backends{
			Containers: e.containers, Images: e.images, Networks: e.networks, Volumes: e.volumes, Events: e.events,
			System: &about{
				config: e.current, build: e.o.Build, runc: e.runc, host: e.host, snapshotter: e.images.Snapshotter(),
				containers: e.containers, images: e.images, volumes: e.volumes,
				listeners: e.events.Subscribers, warnings: e.networks.Warnings,
			},
		},
		Version: e.o.Build.Version, Experimental: e.cfg.Experimental, Log: e.log,
	})
}

const (
	// headerTimeout bounds a TLS handshake and a request's head, so that a client that says nothing holds nothing for long.
	headerTimeout = 30 * time.Second
	// idleTimeout is how long a connection is kept for a client's next request.
	idleTimeout = 5 * time.Minute
)

// serve answers requests until ctx ends: then streams are ended, and what changes something is given time to finish.
func (e *engine) serve(ctx context.Context, listeners []net.Listener) error {
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	srv := &http.Server{
		Handler:           e.handler(),
		BaseContext:       func(net.Listener) context.Context { return streams },
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(e.log.Handler(), slog.LevelDebug), // failed handshakes, mostly
	}
	failed := make(chan error, len(listeners)+1)
	for _, l := range listeners {
		e.log.Info("listening", "address", l.Addr().Network()+"://"+l.Addr().String())
		go func() { failed <- fmt.Errorf("serving the API: %w", srv.Serve(l)) }()
	}
	if e.o.Ready != nil {
		e.o.Ready()
	}
	go e.prepare(ctx, failed)
	go e.reload(ctx)
	select {
	case err := <-failed:
		srv.Close()
		return err
	case <-ctx.Done():
	}
	e.log.Info("ending")
	endStreams()
	timed, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(e.current().ShutdownTimeout)*time.Second)
	defer cancel()
	if err := srv.Shutdown(timed); err != nil {
		e.log.Warn("requests were cut off", "error", err)
		srv.Close()
	}
	return nil
}

// prepare does what the first container would wait for; it ends by itself, and services may be closed meanwhile.
func (e *engine) prepare(ctx context.Context, failed chan<- error) {
	if err := e.networks.Raise(ctx); err != nil && ctx.Err() == nil {
		failed <- err
		return
	}
	e.runtime.Warm()
}

// close closes what is open, last opened first.
func (e *engine) close() {
	if e.containers != nil {
		e.containers.Close()
	}
	if e.runtime != nil {
		e.check("runtime", e.runtime.Close())
	}
	if e.networks != nil {
		e.check("networks", e.networks.Close())
	}
	if e.images != nil {
		e.check("images", e.images.Close())
	}
	if e.ports != nil {
		e.stopPorts()
		<-e.portsDone
	}
}

func (e *engine) check(service string, err error) {
	if err != nil {
		e.log.Error("closing", "service", service, "error", err)
	}
}
