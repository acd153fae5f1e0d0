//go:build linux

package container

import (
	"sort"
	"strings"
	"sync"
)

// registry is the index of containers by id and name. Its lock is held for look-ups only.
type registry struct {
	mu    sync.RWMutex // guards what follows
	byID  map[string]*instance
	names map[string]string // name → id; reserved before the container is in byID
}

func newRegistry() *registry {
	return &registry{byID: map[string]*instance{}, names: map[string]string{}}
}

// reserve takes a name for an id.
func (r *registry) reserve(name, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if holder, taken := r.names[name]; taken && holder != id {
		return conflict("Conflict. The container name %q is already in use by container %q. "+
			"You have to remove (or rename) that container to be able to reuse that name.", "/"+name, holder)
	}
	r.names[name] = id
	return nil
}

// reserveMadeUp takes the first free name of those it makes up.
func (r *registry) reserveMadeUp(id string) (string, error) {
	for round := range 100 {
		name := madeUpName(round)
		if r.reserve(name, id) == nil {
			return name, nil
		}
	}
	return shortID(id), r.reserve(shortID(id), id)
}

// release gives a name back if the id holds it.
func (r *registry) release(name, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names[name] == id {
		delete(r.names, name)
	}
}

func (r *registry) add(c *instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byID[c.id] = c
}

// remove forgets a container and its name.
func (r *registry) remove(c *instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, c.id)
	for name, id := range r.names {
		if id == c.id {
			delete(r.names, name)
		}
	}
}

// find resolves an id, a name (with or without a slash) or an unambiguous prefix of an id.
func (r *registry) find(ref string) (*instance, error) {
	if ref == "" {
		return nil, invalid("No container name or ID supplied")
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if c := r.byID[ref]; c != nil {
		return c, nil
	}
	if c := r.byID[r.names[strings.TrimPrefix(ref, "/")]]; c != nil {
		return c, nil
	}
	return r.findPrefix(ref)
}

func (r *registry) findPrefix(ref string) (*instance, error) {
	var found *instance
	for id, c := range r.byID {
		if !strings.HasPrefix(id, ref) {
			continue
		}
		if found != nil {
			return nil, invalid("Multiple IDs found with provided prefix: %s", ref)
		}
		found = c
	}
	if found == nil {
		return nil, notFound("No such container: %s", ref)
	}
	return found, nil
}

// all returns the containers, the youngest first.
func (r *registry) all() []*instance {
	r.mu.RLock()
	list := make([]*instance, 0, len(r.byID))
	for _, c := range r.byID {
		list = append(list, c)
	}
	r.mu.RUnlock()
	sort.Slice(list, func(i, j int) bool {
		if list[i].created.Equal(list[j].created) {
			return list[i].id < list[j].id
		}
		return list[i].created.After(list[j].created)
	})
	return list
}
