//go:build linux

// Package runtime runs containers, each under a supervisor (cmd/berth-shim) that outlives the engine. What is known of a
// container is in its bundle, a folder below the engine's exec root; a new engine finds everything there.
//
// A supervisor that is killed takes its container with it, though not at once: nobody is left to keep the output and to see
// the exit code, so whoever notices first, a Wait that is under way or State, kills what still runs in the cgroup. Wait then
// reports exit code 137, State reports shim.Unknown.
package runtime

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// Config says where a Service keeps its state.
type Config struct {
	ExecRoot string // absolute; bundles are made in its folder "containers"
	Root     string // of what outlives a reboot, on whose file system programs may run; ExecRoot when empty
	Shim     string // path of the supervisor; empty means the embedded one
}

// Service runs containers. Its methods may be called by several goroutines.
type Service struct {
	bundles string
	program program
	init    initProgram
	cgroups *hierarchies
	spares  spares
}

// New opens the runtime. Containers of an earlier engine are found under the same ExecRoot.
func New(c Config) (*Service, error) {
	if !filepath.IsAbs(c.ExecRoot) {
		return nil, fmt.Errorf("exec root %q is not an absolute path: %w", c.ExecRoot, errdefs.ErrInvalidArgument)
	}
	groups, err := findHierarchies()
	if err != nil {
		return nil, err
	}
	bundles := filepath.Join(c.ExecRoot, "containers")
	if err := os.MkdirAll(bundles, 0o711); err != nil {
		return nil, fmt.Errorf("making the folder of containers: %w", err)
	}
	if err := checkSupervisor(c.Shim); err != nil {
		return nil, err
	}
	if c.Root == "" {
		c.Root = c.ExecRoot
	}
	return &Service{
		bundles: bundles, program: program{path: c.Shim}, cgroups: groups, init: initProgram{path: filepath.Join(c.Root, InitName)},
	}, nil
}

// Warm has a supervisor wait for the first container. It takes reading the supervisor's 7 MB and starting it, for which an engine
// that is about to answer has no time.
func (s *Service) Warm() { s.refill() }

// Close lets go of what New took. Containers go on.
func (s *Service) Close() error {
	s.spares.close()
	s.cgroups.removeParents()
	return s.program.close()
}

// bundle is the folder of a container's runtime state.
func (s *Service) bundle(id string) (string, error) {
	if !validID(id) {
		return "", fmt.Errorf("container id %q: %w", id, errdefs.ErrInvalidArgument)
	}
	return filepath.Join(s.bundles, id), nil
}

// validID keeps ids from leaving the folder of bundles.
func validID(id string) bool {
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return id != "" && len(id) <= 128
}

func notFound(id string) error {
	return fmt.Errorf("container %s has no runtime state: %w", id, errdefs.ErrNotFound)
}

func notRunning(id string) error {
	return &kindError{fmt.Sprintf("container %s is not running", id), errdefs.ErrConflict}
}

// kindError is text that a client may match, with a kind that does not show in it.
type kindError struct {
	text string
	kind error
}

func (e *kindError) Error() string { return e.text }
func (e *kindError) Unwrap() error { return e.kind }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
