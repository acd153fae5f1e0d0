package filter

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// Until reads the "until" filter of a prune: only what was made before it may go. It is the zero time when not set.
func (a Args) Until(now time.Time) (time.Time, error) {
	values := a["until"]
	if len(values) > 1 {
		return time.Time{}, errdefs.ErrInvalidArgument.WithMessage("more than one until filter specified")
	}
	if len(values) == 0 {
		return time.Time{}, nil
	}
	return ParseTime(values[0], now)
}

// ParseTime reads a moment as clients send it: seconds since 1970 with up to nine decimals, a duration before now ("10m"), or
// a date, with or without a time of day and a zone. Without a zone it is now's. An empty text is the zero time.
// The error is errdefs.ErrInvalidArgument.
func ParseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, ok := parseUnix(text); ok {
		return t, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15Z07:00", "2006-01-02Z07:00",
		"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02",
	} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errdefs.ErrInvalidArgument.WithMessage(
		fmt.Sprintf("invalid time %q: neither seconds since 1970, nor a duration, nor a date", text))
}

// parseUnix reads "seconds" and "seconds.nanoseconds"; decimals beyond the ninth are dropped.
func parseUnix(text string) (time.Time, bool) {
	whole, frac, _ := strings.Cut(text, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || len(frac) > 20 {
		return time.Time{}, false
	}
	frac = (frac + "000000000")[:9]
	nsec, err := strconv.ParseUint(frac, 10, 32)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(sec, int64(nsec)), true
}
