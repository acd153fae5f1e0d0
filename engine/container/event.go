//go:build linux

package container

import (
	"maps"
	"strconv"

	"github.com/moby/moby/api/types/events"
)

// emit tells of something that happened to a container. extra comes as name, value, name, value.
func (s *Service) emit(spec *Spec, action events.Action, extra ...string) {
	attributes := maps.Clone(spec.Config.Labels)
	if attributes == nil {
		attributes = map[string]string{}
	}
	if spec.Config.Image != "" {
		attributes["image"] = spec.Config.Image
	}
	attributes["name"] = spec.Name
	for i := 0; i+1 < len(extra); i += 2 {
		attributes[extra[i]] = extra[i+1]
	}
	s.deps.Events.Publish(events.Message{
		Type: events.ContainerEventType, Action: action,
		Actor: events.Actor{ID: spec.ID, Attributes: attributes},
	})
}

func pruneEvent(reclaimed uint64) events.Message {
	return events.Message{Type: events.ContainerEventType, Action: events.ActionPrune,
		Actor: events.Actor{Attributes: map[string]string{"reclaimed": strconv.FormatUint(reclaimed, 10)}}}
}
