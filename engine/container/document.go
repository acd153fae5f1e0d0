//go:build linux

package container

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/getberth/berth/engine/container/mountspec"
)

// documentVersion is written into every document; a newer one is not read, so that a downgrade destroys nothing.
const documentVersion = 1

// Spec is what was asked for. A value is never changed once it is published: whoever changes a field copies first.
type Spec struct {
	Version    int
	ID         string // 64 hex digits
	Name       string // without the leading slash
	Created    time.Time
	ImageID    string // sha256:…
	Platform   *ocispec.Platform
	Config     *container.Config
	HostConfig *container.HostConfig
	Networks   []NetworkSpec // in the order in which they are plugged
	Mounts     []mountspec.Point
	Args       []string // entrypoint and command, merged
}

// NetworkSpec is one network a container is to be plugged into.
type NetworkSpec struct {
	Ref      string // network name as asked, "bridge" rather than "default"
	Endpoint *network.EndpointSettings
}

// State is what lives, or what became of it.
type State struct {
	Version         int
	Status          container.ContainerState
	PID             int
	ExitCode        int
	Error           string
	OOMKilled       bool
	StartedAt       time.Time
	FinishedAt      time.Time
	RestartCount    int
	StoppedManually bool
	Started         bool // at least once
	Endpoints       map[string]*network.EndpointSettings
	Ports           network.PortMap
	SandboxPath     string
	Health          *container.Health
}

// running says that there is a process; paused containers have one too.
func (s *State) running() bool {
	return s.Status == container.StateRunning || s.Status == container.StatePaused
}

// active says that there is a process, or will be one without anybody's doing.
func (s *State) active() bool { return s.running() || s.Status == container.StateRestarting }

// Decoding errors name the field, never the content, which may hold secrets in variables.

func decodeSpec(data []byte) (*Spec, error) {
	s := &Spec{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("reading the container's document: %w", err)
	}
	switch {
	case s.Version != documentVersion:
		return nil, fmt.Errorf("the container's document has version %d, this engine reads %d", s.Version, documentVersion)
	case !validID(s.ID):
		return nil, fmt.Errorf("the container's document has no valid id")
	case !validName(s.Name):
		return nil, fmt.Errorf("the container's document has no valid name")
	case s.Config == nil || s.HostConfig == nil:
		return nil, fmt.Errorf("the container's document lacks its configuration")
	case len(s.Args) == 0:
		return nil, fmt.Errorf("the container's document names no command")
	}
	for _, p := range s.Mounts {
		if err := p.Check(); err != nil {
			return nil, fmt.Errorf("the container's document has a bad mount: %w", err)
		}
	}
	return s, nil
}

func decodeState(data []byte) (*State, error) {
	s := &State{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("reading the container's state: %w", err)
	}
	if s.Version != documentVersion {
		return nil, fmt.Errorf("the container's state has version %d, this engine reads %d", s.Version, documentVersion)
	}
	if err := container.ValidateContainerState(s.Status); err != nil {
		return nil, fmt.Errorf("the container's state is unknown: %w", err)
	}
	return s, nil
}
