//go:build linux

package container

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// Errors reach the client as their text, so a kind must not add words of its own: fault keeps the two apart.
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

func notModified(format string, args ...any) error {
	return withKind(errdefs.ErrNotModified, format, args...)
}

// refused names an option that this engine does not have.
func refused(format string, args ...any) error {
	return withKind(errdefs.ErrInvalidArgument, format, args...)
}

func system(format string, args ...any) error {
	return withKind(errdefs.ErrInternal, format, args...)
}

func forbidden(format string, args ...any) error {
	return withKind(errdefs.ErrPermissionDenied, format, args...)
}
