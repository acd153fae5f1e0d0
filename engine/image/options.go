package image

import (
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/getberth/berth/engine/filter"
)

// Progress receives the messages of a pull, push or load in the form Docker streams them. It is called from one goroutine at a
// time, and its error (the client has gone) ends the operation.
type Progress func(jsonstream.Message) error

// ListOptions selects images for List.
type ListOptions struct {
	All        bool // intermediate ones too
	SharedSize bool
	Manifests  bool
	Filters    filter.Args
}

// RemoveOptions says how an image is removed.
type RemoveOptions struct {
	Force     bool
	Platforms []ocispec.Platform // only the content of these; requires Force
}
