//go:build linux

package container

import (
	"context"
	"strings"
	"time"

	"github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/getberth/berth/engine/image/changes"
)

// Commit makes an image of a container, which is paused for it if o says so.
func (s *Service) Commit(ctx context.Context, ref string, o CommitOptions) (string, error) {
	c, spec, state, unlock, err := s.locked(ctx, ref)
	if err != nil {
		return "", err
	}
	defer unlock()
	if state.Status == container.StateRemoving || state.Status == container.StateDead {
		return "", conflict("you cannot commit container %s which is %s", c.id, state.Status)
	}
	config, err := s.committed(ctx, spec, o)
	if err != nil {
		return "", err
	}
	if o.Pause && state.Status == container.StateRunning {
		resume, err := s.freeze(ctx, c)
		if err != nil {
			return "", err
		}
		defer resume()
	}
	id, err := s.deps.Images.CommitRootFS(ctx, c.id, o.Ref, config)
	if err != nil {
		return "", err
	}
	s.emit(spec, events.ActionCommit, "comment", o.Comment, "imageID", id, "imageRef", o.Ref)
	return id, nil
}

// freeze pauses a container without telling.
func (s *Service) freeze(ctx context.Context, c *instance) (resume func(), err error) {
	if err := s.deps.Runtime.Pause(ctx, c.id); err != nil {
		return nil, system("cannot pause container %s: %w", c.id, err)
	}
	return func() {
		if err := s.deps.Runtime.Resume(context.WithoutCancel(ctx), c.id); err != nil {
			s.log.Error("resuming a container after a commit", "id", c.id, "error", err)
		}
	}, nil
}

// committed is the new image's configuration: the container's, with the client's on top, changed by instructions.
func (s *Service) committed(ctx context.Context, spec *Spec, o CommitOptions) (v1.DockerOCIImage, error) {
	base := imageConfig(spec.Config)
	config := *spec.Config
	if o.Config != nil {
		merged, err := mergeImage(*o.Config, base)
		if err != nil {
			return v1.DockerOCIImage{}, err
		}
		config = *merged
	}
	now := time.Now().UTC()
	img := v1.DockerOCIImage{Config: imageConfig(&config)}
	img.Created, img.Author = &now, o.Author
	if err := changes.Apply(&img.Config, o.Changes); err != nil {
		return img, err
	}
	img.History = []ocispec.History{{Created: &now, Author: o.Author, Comment: o.Comment, CreatedBy: strings.Join(spec.Args, " ")}}
	if _, image, err := s.deps.Images.Config(ctx, spec.ImageID, spec.Platform); err == nil {
		img.Platform = image.Platform
	}
	return img, nil
}

// imageConfig is the part of a container's configuration that an image keeps.
func imageConfig(c *container.Config) v1.DockerOCIImageConfig {
	var img v1.DockerOCIImageConfig
	img.User, img.Env, img.Entrypoint, img.Cmd = c.User, c.Env, c.Entrypoint, c.Cmd
	img.Volumes, img.WorkingDir, img.Labels, img.StopSignal = c.Volumes, c.WorkingDir, c.Labels, c.StopSignal
	img.Healthcheck, img.Shell, img.OnBuild = c.Healthcheck, c.Shell, c.OnBuild
	if len(c.ExposedPorts) > 0 {
		img.ExposedPorts = map[string]struct{}{}
		for p := range c.ExposedPorts {
			img.ExposedPorts[p.String()] = struct{}{}
		}
	}
	return img
}
