package drivers

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ErrUnknown is wrapped by the error about a driver that is not registered.
var ErrUnknown = errors.New("unknown driver")

// Registry knows drivers by name. The zero value is empty and ready; fill it before it is shared.
type Registry struct {
	makers map[string]func() Driver
}

// Add registers a driver. Nothing is made until Get asks for it.
func (r *Registry) Add(name string, make func() Driver) {
	if r.makers == nil {
		r.makers = map[string]func() Driver{}
	}
	r.makers[name] = make
}

// Get makes the named driver. The error wraps ErrUnknown and lists the known ones.
func (r *Registry) Get(name string) (Driver, error) {
	if make, ok := r.makers[name]; ok {
		return make(), nil
	}
	return nil, fmt.Errorf("%w %q: the drivers are %s", ErrUnknown, name, strings.Join(r.Names(), ", "))
}

// Names lists the registered drivers in order.
func (r *Registry) Names() []string { return slices.Sorted(maps.Keys(r.makers)) }
