// Package remote reaches registries: which hosts answer for a name, in which order, how they are trusted and with which
// credentials. Nothing that a registry sends is trusted, not even to end.
package remote
