package remote

import (
	"errors"
	"net/http"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
)

// IsDenied reports whether a registry, or its token server, refused for want of rights.
func IsDenied(err error) bool {
	if errors.Is(err, docker.ErrInvalidAuthorization) {
		return true
	}
	var status remoteerrors.ErrUnexpectedStatus
	return errors.As(err, &status) &&
		(status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden)
}

// Reason is what the registry gave as the cause of an error, e.g. "toomanyrequests: …"; empty when it gave none.
func Reason(err error) string {
	var list docker.Errors
	if errors.As(err, &list) && len(list) > 0 {
		return list[0].Error()
	}
	if err != nil && strings.Contains(err.Error(), "no basic auth credentials") {
		return "no basic auth credentials"
	}
	return ""
}
