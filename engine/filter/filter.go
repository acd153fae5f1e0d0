// Package filter holds the filters of list, prune and event requests, in both forms that clients send.
package filter

// Args maps a filter's name to its values, e.g. "status" to {"running", "paused"}.
type Args map[string][]string
