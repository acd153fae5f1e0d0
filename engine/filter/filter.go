// Package filter holds the filters of list, prune and event requests, in both forms that clients send.
package filter

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Args maps a filter's name to its values, e.g. "status" to {"running", "paused"}. Values are sorted and occur once.
type Args map[string][]string

// MaxSize bounds the text of a request's filters, in bytes. A URL of net/http is bounded at 1 MiB; this is what one
// parameter of it may cost to parse.
const MaxSize = 256 << 10

// Parse reads the "filters" parameter of a request: {"name": {"value": true}}, or the form of old clients,
// {"name": ["value"]}. An empty text has no filters. The error is errdefs.ErrInvalidArgument.
func Parse(text string) (Args, error) {
	if text == "" {
		return Args{}, nil
	}
	if len(text) > MaxSize {
		return nil, fmt.Errorf("invalid filter: longer than %d bytes: %w", MaxSize, errdefs.ErrInvalidArgument)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid filter")
	}
	args := Args{}
	for name, value := range raw {
		values, err := parseValues(value)
		if err != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage("invalid filter")
		}
		args.Add(name, values...)
	}
	return args, nil
}

// parseValues reads the values of one filter. A value that maps to false was not asked for.
func parseValues(raw json.RawMessage) ([]string, error) {
	var set map[string]bool
	if err := json.Unmarshal(raw, &set); err == nil {
		maps.DeleteFunc(set, func(_ string, on bool) bool { return !on })
		return slices.Collect(maps.Keys(set)), nil
	}
	var list []string
	err := json.Unmarshal(raw, &list)
	return list, err
}

// Add adds values to a filter.
func (a Args) Add(name string, values ...string) {
	if len(values) == 0 {
		return
	}
	all := slices.Concat(a[name], values)
	slices.Sort(all)
	a[name] = slices.Compact(all)
}

// Has reports whether a filter is set.
func (a Args) Has(name string) bool { return len(a[name]) > 0 }

// Allowed refuses the filters that are not named, as Docker words it.
func (a Args) Allowed(names ...string) error {
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if !slices.Contains(names, name) {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter '%s'", name))
		}
	}
	return nil
}

// Match reports whether the filter is not set or one of its values equals value.
func (a Args) Match(name, value string) bool {
	return !a.Has(name) || slices.Contains(a[name], value)
}

// MatchAny reports whether the filter is not set or one of its values satisfies match.
func (a Args) MatchAny(name string, match func(want string) bool) bool {
	return !a.Has(name) || slices.ContainsFunc(a[name], match)
}

// MatchPrefix reports whether the filter is not set or one of its values is a prefix of value.
func (a Args) MatchPrefix(name, value string) bool {
	return a.MatchAny(name, func(want string) bool { return strings.HasPrefix(value, want) })
}

// MatchGlob reports whether the filter is not set or one of its values is a shell pattern (or the text itself) of value.
func (a Args) MatchGlob(name, value string) bool {
	return a.MatchAny(name, func(want string) bool {
		ok, err := path.Match(want, value)
		return want == value || ok && err == nil
	})
}

// MatchLabels reports whether labels has every "key" and "key=value" of the filter; it does when the filter is not set.
func (a Args) MatchLabels(name string, labels map[string]string) bool {
	return !slices.ContainsFunc(a[name], func(want string) bool { return !hasLabel(labels, want) })
}

// MatchPrune reports whether an object with these labels may be pruned: it has all of "label" and none of "label!".
func (a Args) MatchPrune(labels map[string]string) bool {
	return a.MatchLabels("label", labels) &&
		!slices.ContainsFunc(a["label!"], func(not string) bool { return hasLabel(labels, not) })
}

func hasLabel(labels map[string]string, want string) bool {
	key, value, exact := strings.Cut(want, "=")
	have, ok := labels[key]
	return ok && (!exact || have == value)
}

// Bool reads a filter that is true or false, e.g. "dangling"; unset is what it is when the filter is not set. Several values
// that contradict each other are refused.
func (a Args) Bool(name string, unset bool) (bool, error) {
	if !a.Has(name) {
		return unset, nil
	}
	yes := slices.Contains(a[name], "1") || slices.Contains(a[name], "true")
	no := slices.Contains(a[name], "0") || slices.Contains(a[name], "false")
	if yes == no {
		return false, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter '%s=%v'", name, a[name]))
	}
	return yes, nil
}
