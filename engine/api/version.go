package api

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// version is the minor number of an API version 1.N.
type version int

// The API versions that are served. moby/client refuses to speak less than 1.40, old SDKs ask for 1.24.
const (
	oldest version = 24
	newest version = 56
)

// The same as text; requests without a version get MaxVersion.
const (
	MinVersion = "1.24"
	MaxVersion = "1.56"
)

func (v version) String() string { return "1." + strconv.Itoa(int(v)) }

// splitVersion cuts "/v1.N" off a path. ok is false when the path has no version.
func splitVersion(path string) (text, rest string, ok bool) {
	if !strings.HasPrefix(path, "/v") {
		return "", path, false
	}
	text, rest, _ = strings.Cut(path[2:], "/")
	if text == "" || strings.Trim(text, "0123456789.") != "" {
		return "", path, false
	}
	return text, "/" + rest, true
}

// parseVersion reads a version that a client asks for, and refuses it as Docker words it if it is not served.
func parseVersion(text string) (version, error) {
	major, minor, _ := strings.Cut(text, ".")
	m, err := strconv.ParseUint(major, 10, 16)
	if err != nil {
		return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid API version %q", text))
	}
	n, err := strconv.ParseUint(minor, 10, 16)
	switch {
	case err != nil:
		return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid API version %q", text))
	case m < 1 || m == 1 && version(n) < oldest:
		return 0, tooOld(text)
	case m > 1 || version(n) > newest:
		return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"client version %s is too new. Maximum supported API version is %s", text, newest))
	}
	return version(n), nil
}

// errTooOld is an error that a client of before 1.24 reads as plain text.
type errTooOld string

func tooOld(text string) error { return errTooOld(text) }

func (e errTooOld) Error() string {
	return fmt.Sprintf("client version %s is too old. Minimum supported API version is %s, "+
		"please upgrade your client to a newer version", string(e), oldest)
}

// InvalidParameter makes it errdefs.ErrInvalidArgument.
func (errTooOld) InvalidParameter() {}
