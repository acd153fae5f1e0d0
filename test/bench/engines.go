//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/test/images"
)

const image = "busybox:1.24"

// patience bounds the start and the end of an engine on a slow computer.
const patience = time.Minute

// server is an engine started for the benchmark, in mount and network namespaces of its own: neither its bridge nor its firewall
// nor its mounts can be seen outside, and they end with it.
type server struct {
	name  string
	dir   string
	group string // control group of its containers; empty for the engine's own choice
	cmd   *exec.Cmd
	log   *os.File
}

// inside prepares the namespaces: tmpfs on /run keeps engines from what others keep there.
const inside = `ip link set lo up && mount -t tmpfs tmpfs /run && exec "$@"`

func (b *bench) startServer(ctx context.Context, name, program string, args ...string) (_ *server, err error) {
	s := &server{name: name, dir: filepath.Join(b.dir, name)}
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return nil, err
	}
	if s.log, err = os.Create(filepath.Join(s.dir, "log")); err != nil {
		return nil, err
	}
	argv := []string{"--mount", "--net", "--propagation", "private", "sh", "-c", inside, "sh", program}
	argv = append(argv, args...)
	argv = append(argv, "--data-root", filepath.Join(s.dir, "data"), "--exec-root", filepath.Join(s.dir, "exec"),
		"--pidfile", filepath.Join(s.dir, "pid"), "-H", s.host())
	s.cmd = exec.Command("unshare", argv...) // not ended by ctx: it gets to clean up
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGTERM, Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	return s, s.awaitReady(ctx)
}

func (s *server) host() string { return "unix://" + filepath.Join(s.dir, "sock") }

func (s *server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, err := s.docker(ctx, "version")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(s.log.Name())
			return errors.Join(fmt.Errorf("%s does not answer: %w\n%s", s.name, err, log[max(0, len(log)-2000):]), s.stop())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// docker runs the stock client against the engine and returns what it printed.
func (s *server) docker(ctx context.Context, args ...string) (string, error) {
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+s.host(), "DOCKER_CONFIG="+s.dir)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, errOut.Bytes())
	}
	return strings.TrimSpace(out.String()), nil
}

// stop removes the containers and ends the engine.
func (s *server) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var errs []error
	if ids, err := s.docker(ctx, "ps", "-aq"); err == nil && ids != "" {
		_, err := s.docker(ctx, append([]string{"rm", "-f"}, strings.Fields(ids)...)...)
		errs = append(errs, err)
	}
	errs = append(errs, s.cmd.Process.Signal(unix.SIGTERM))
	force := time.AfterFunc(patience, func() { _ = unix.Kill(-s.cmd.Process.Pid, unix.SIGKILL) })
	err := s.cmd.Wait()
	force.Stop()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		err = nil // an engine that a signal ended
	}
	errs = append(errs, err, s.log.Close())
	if s.group != "" {
		removeGroups(s.group)
	}
	return errors.Join(errs...)
}

// removeGroups removes control groups of which the engine leaves empty folders.
func removeGroups(name string) {
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + name, "/sys/fs/cgroup/" + name} {
		dirs, _ := filepath.Glob(pattern)
		for _, d := range dirs {
			_ = os.Remove(d)
		}
	}
}

// load gives the engine the image.
func (s *server) load(ctx context.Context, archive string) error {
	_, err := s.docker(ctx, "load", "-q", "-i", archive)
	return err
}

func busyboxArchive(path string) (err error) {
	img, err := images.Busybox()
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return images.WriteDockerArchive(f, image, img)
}

// servers starts berthd and, where it is installed, the peer, and gives both the image.
func (b *bench) servers(ctx context.Context) (ours, peer *server, err error) {
	archive := filepath.Join(b.dir, "busybox.tar")
	if err := busyboxArchive(archive); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stopAll(ours, peer))
		}
	}()
	if ours, err = b.startServer(ctx, "berthd", filepath.Join(b.bin, "berthd"), "serve"); err != nil {
		return nil, nil, err
	}
	if err := ours.load(ctx, archive); err != nil {
		return ours, nil, err
	}
	if _, err := exec.LookPath("dockerd"); err != nil {
		progress("there is no dockerd: its figures are left out")
		return ours, nil, nil
	}
	group := fmt.Sprintf("dockerd-bench-%d", os.Getpid())
	if peer, err = b.startServer(ctx, "dockerd", "dockerd", "--cgroup-parent", "/"+group); err != nil {
		return ours, nil, err
	}
	peer.group = group
	return ours, peer, peer.load(ctx, archive)
}

func stopAll(servers ...*server) error {
	var errs []error
	for _, s := range servers {
		if s != nil {
			errs = append(errs, s.stop())
		}
	}
	return errors.Join(errs...)
}

// engines is a part that compares the engines on this host.
func engines(measures ...func(context.Context, *bench, *server, *server) ([]figure, error)) func(context.Context, *bench) ([]figure, error) {
	return func(ctx context.Context, b *bench) (figures []figure, err error) {
		progress("starting berthd and dockerd on this host")
		ours, peer, err := b.servers(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, stopAll(ours, peer)) }()
		for _, measure := range measures {
			got, err := measure(ctx, b, ours, peer)
			if err != nil {
				return nil, err
			}
			figures = append(figures, got...)
		}
		return figures, nil
	}
}

// measureRuns times the same client's `docker run` against both engines, in turns.
func measureRuns(ctx context.Context, b *bench, ours, peer *server) ([]figure, error) {
	progress("docker run --rm %s true, %d times", image, b.runs)
	f := figure{what: "docker run --rm " + image + " true", unit: "ms", with: "dockerd 20.10", target: target{most: 0.5, ratio: true}}
	for n := range b.runs + 1 {
		took, err := ours.timeRun(ctx)
		if err != nil {
			return nil, err
		}
		var other time.Duration
		if peer != nil {
			if other, err = peer.timeRun(ctx); err != nil {
				return nil, err
			}
		}
		if n == 0 {
			continue // it warms up both
		}
		f.ours = append(f.ours, milliseconds(took))
		if peer != nil {
			f.peer = append(f.peer, milliseconds(other))
		}
	}
	return []figure{f}, nil
}

func (s *server) timeRun(ctx context.Context) (time.Duration, error) {
	return timed(ctx, []string{"DOCKER_HOST=" + s.host(), "DOCKER_CONFIG=" + s.dir}, "docker", "run", "--rm", image, "true")
}
