//go:build linux

package image

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fault keeps an error's kind apart from its text, which is all that a client is shown.
type fault struct {
	kind  error // of containerd/errdefs
	cause error
}

func (f *fault) Error() string   { return f.cause.Error() }
func (f *fault) Unwrap() []error { return []error{f.kind, f.cause} }

func withKind(kind error, format string, args ...any) error {
	return &fault{kind: kind, cause: fmt.Errorf(format, args...)}
}

func invalid(format string, args ...any) error {
	return withKind(errdefs.ErrInvalidArgument, format, args...)
}

func notFound(format string, args ...any) error {
	return withKind(errdefs.ErrNotFound, format, args...)
}

func conflict(format string, args ...any) error {
	return withKind(errdefs.ErrConflict, format, args...)
}

// noSuchImage is worded as clients match it.
func noSuchImage(ref string) error { return notFound("No such image: %s", ref) }

func noPlatform(ref string, p *ocispec.Platform) error {
	if p == nil {
		return notFound("image with reference %s was found but does not provide any platform", ref)
	}
	return notFound("image with reference %s was found but does not provide the specified platform (%s)", ref, platforms.FormatAll(*p))
}
