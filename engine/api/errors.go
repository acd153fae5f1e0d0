package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
)

// status maps the kind of an error to HTTP; it is the only place that does. The outermost kind counts.
func status(err error) int {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	kind := errdefs.Resolve(err)
	switch {
	case errdefs.IsInvalidArgument(kind), errdefs.IsOutOfRange(kind):
		return http.StatusBadRequest
	case errdefs.IsNotFound(kind):
		return http.StatusNotFound
	case errdefs.IsConflict(kind), errdefs.IsAlreadyExists(kind), errdefs.IsFailedPrecondition(kind):
		return http.StatusConflict
	case errdefs.IsUnauthorized(kind):
		return http.StatusUnauthorized
	case errdefs.IsPermissionDenied(kind):
		return http.StatusForbidden
	case errdefs.IsUnavailable(kind):
		return http.StatusServiceUnavailable
	case errdefs.IsNotModified(kind):
		return http.StatusNotModified
	case errdefs.IsNotImplemented(kind):
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}

// invalid is an errdefs.ErrInvalidArgument with this text.
func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// badBody words why a request's body could not be read. What is wrong with the body is the client's fault, a lost
// connection is nobody's.
func badBody(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return fmt.Errorf("the request's body is longer than %d bytes: %w", tooLarge.Limit, err)
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return invalid("invalid JSON: %v", err)
}
