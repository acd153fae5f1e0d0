package events

import (
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"

	"github.com/getberth/berth/engine/filter"
)

// objects are the filters that name an object of one kind, by its id, an id prefix or its name.
func objects() map[string]events.Type {
	return map[string]events.Type{
		"container": events.ContainerEventType, "daemon": events.DaemonEventType, "network": events.NetworkEventType,
		"plugin": events.PluginEventType, "volume": events.VolumeEventType, "service": events.ServiceEventType,
		"node": events.NodeEventType, "secret": events.SecretEventType, "config": events.ConfigEventType,
	}
}

// CheckFilters refuses filters that events do not have.
func CheckFilters(f filter.Args) error {
	names := []string{"event", "type", "scope", "label", "image"}
	for name := range objects() {
		names = append(names, name)
	}
	return f.Allowed(names...)
}

// Match reports whether an event passes the filters of a request.
func Match(f filter.Args, m events.Message) bool {
	if len(f) == 0 {
		return true
	}
	return matchAction(f, m.Action) &&
		f.Match("type", string(m.Type)) &&
		f.Match("scope", m.Scope) &&
		f.MatchLabels("label", m.Actor.Attributes) &&
		matchObjects(f, m) && matchImage(f, m)
}

// matchAction lets "exec_start" and "health_status" match actions that carry details after a colon.
func matchAction(f filter.Args, action events.Action) bool {
	base, _, _ := strings.Cut(string(action), ":")
	return f.MatchAny("event", func(want string) bool { return want == string(action) || want == base })
}

// matchObjects compares the objects named with the actor. Several kinds exclude each other, except that a network's events
// (connect, disconnect) and a volume's (mount, unmount) also match the container they speak of.
func matchObjects(f filter.Args, m events.Message) bool {
	for name, kind := range objects() {
		if !f.Has(name) {
			continue
		}
		id, alias := m.Actor.ID, m.Actor.Attributes["name"]
		if m.Type != kind {
			if kind != events.ContainerEventType || m.Actor.Attributes["container"] == "" {
				return false
			}
			id, alias = m.Actor.Attributes["container"], ""
		}
		if !f.MatchAny(name, func(want string) bool { return isObject(want, id, alias) }) {
			return false
		}
	}
	return true
}

func isObject(want, id, name string) bool {
	return want != "" && (want == name || strings.HasPrefix(id, want))
}

// matchImage compares with the image of an image's event, or of a container's.
func matchImage(f filter.Args, m events.Message) bool {
	if !f.Has("image") {
		return true
	}
	id := m.Actor.ID
	name := m.Actor.Attributes["name"]
	switch m.Type {
	case events.ImageEventType:
	case events.ContainerEventType:
		id, name = "", m.Actor.Attributes["image"]
	default:
		return false
	}
	return f.MatchAny("image", func(want string) bool {
		return want == id || want == name || want == stripTag(id) || want == stripTag(name)
	})
}

// stripTag is the repository of an image's name, as clients write it.
func stripTag(image string) string {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	return reference.FamiliarName(ref)
}
