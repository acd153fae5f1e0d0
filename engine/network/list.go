package network

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/getberth/berth/engine/filter"
)

// List shows the networks that match, sorted by name. Filters: dangling, driver, id, label, name, scope, type.
func (s *Service) List(ctx context.Context, f filter.Args) ([]network.Summary, error) {
	if err := f.Allowed("dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return nil, err
	}
	for _, kind := range f["type"] {
		if kind != "builtin" && kind != "custom" {
			return nil, errdefs.ErrInvalidArgument.WithMessage("invalid value for filter 'type': must be 'builtin' or 'custom'")
		}
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	result := []network.Summary{}
	for _, n := range s.networks {
		if matches(f, n) && (!f.Has("dangling") || dangling == n.isDangling()) {
			result = append(result, network.Summary{Network: n.view()})
		}
	}
	slices.SortFunc(result, func(a, b network.Summary) int { return strings.Compare(a.Name, b.Name) })
	return result, nil
}

func (n *bridgeNetwork) isDangling() bool { return !isPredefined(n.rec.Name) && len(n.endpoints) == 0 }

func matches(f filter.Args, n *bridgeNetwork) bool {
	kind := "custom"
	if isPredefined(n.rec.Name) {
		kind = "builtin"
	}
	return f.Match("driver", n.rec.Driver) && f.Match("scope", "local") && f.Match("type", kind) &&
		f.MatchLabels("label", n.rec.Labels) &&
		f.MatchAny("name", func(want string) bool { return matchesText(want, n.rec.Name) }) &&
		f.MatchAny("id", func(want string) bool { return matchesText(want, n.rec.ID) })
}

// matchesText takes a filter's value as a regular expression, as Docker does, or as part of the text.
func matchesText(want, text string) bool {
	if strings.Contains(text, want) {
		return true
	}
	re, err := regexp.Compile(want)
	return err == nil && re.MatchString(text)
}

// Prune removes all networks that no container is connected to. Filters: label, label!, until.
func (s *Service) Prune(ctx context.Context, f filter.Args) (network.PruneReport, error) {
	if err := s.Raise(ctx); err != nil {
		return network.PruneReport{}, err
	}
	if err := f.Allowed("label", "label!", "until"); err != nil {
		return network.PruneReport{}, err
	}
	until, err := f.Until(time.Now())
	if err != nil {
		return network.PruneReport{}, err
	}
	report := network.PruneReport{NetworksDeleted: []string{}}
	for _, n := range s.prunable(f, until) {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		switch err := s.Remove(ctx, n.rec.ID); {
		case err == nil:
			report.NetworksDeleted = append(report.NetworksDeleted, n.rec.Name)
		case errdefs.IsPermissionDenied(err), errdefs.IsNotFound(err): // someone was faster
		default:
			s.log.WarnContext(ctx, "pruning a network", "network", n.rec.Name, "error", err)
		}
	}
	s.emit(events.Message{Action: events.ActionPrune, Actor: events.Actor{Attributes: map[string]string{"reclaimed": "0"}}})
	return report, nil
}

func (s *Service) prunable(f filter.Args, until time.Time) []*bridgeNetwork {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*bridgeNetwork
	for _, n := range s.networks {
		if n.isDangling() && f.MatchPrune(n.rec.Labels) && (until.IsZero() || !n.rec.Created.After(until)) {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b *bridgeNetwork) int { return strings.Compare(a.rec.Name, b.rec.Name) })
	return all
}

// publish tells what happened to a network; containerID may be empty.
func (s *Service) publish(n *bridgeNetwork, action events.Action, containerID string) {
	attributes := map[string]string{"name": n.rec.Name, "type": n.rec.Driver}
	if containerID != "" {
		attributes["container"] = containerID
	}
	s.emit(events.Message{Action: action, Actor: events.Actor{ID: n.rec.ID, Attributes: attributes}})
}

func (s *Service) emit(m events.Message) {
	if s.cfg.Events == nil {
		return
	}
	now := time.Now()
	m.Type, m.Scope, m.Time, m.TimeNano = events.NetworkEventType, "local", now.Unix(), now.UnixNano()
	s.cfg.Events.Publish(m)
}
