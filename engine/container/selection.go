//go:build linux

package container

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/getberth/berth/engine/filter"
)

// selection is a list's filters, resolved once.
type selection struct {
	all       bool
	f         filter.Args
	now       time.Time
	names     []*regexp.Regexp
	ids       []*regexp.Regexp
	exited    []int
	before    time.Time
	since     time.Time
	ancestors map[string]bool // image ids and references
	networks  map[string]bool // ids and names
	publish   []network.PortRange
	expose    []network.PortRange
	isTask    bool
}

func (s *Service) newSelection(ctx context.Context, o ListOptions) (*selection, error) {
	f := o.Filters
	if err := f.Allowed("ancestor", "annotation", "before", "exited", "expose", "health", "id", "isolation", "is-task", "label", "name",
		"network", "publish", "since", "status", "volume"); err != nil {
		return nil, err
	}
	sel := &selection{all: o.All || o.Limit > 0, f: f, now: time.Now()}
	return sel, firstError(
		func() error { return sel.compileNames() },
		func() error { return sel.parseStates() },
		func() error { return s.resolveTimes(sel) },
		func() error { return sel.parsePorts() },
		func() (err error) { sel.isTask, err = f.Bool("is-task", false); return err },
		func() error { s.resolveAncestors(ctx, sel); s.resolveNetworks(ctx, sel); return nil },
	)
}

// compileNames: a name matches an expression with or without the slash; Go's expressions take linear time.
func (sel *selection) compileNames() error {
	for filter, to := range map[string]*[]*regexp.Regexp{"name": &sel.names, "id": &sel.ids} {
		for _, text := range sel.f[filter] {
			if filter == "id" {
				text = "^" + regexp.QuoteMeta(text)
			}
			re, err := regexp.Compile(text)
			if err != nil {
				return invalid("invalid filter '%s=%s': %v", filter, text, err)
			}
			*to = append(*to, re)
		}
	}
	return nil
}

func (sel *selection) parseStates() error {
	for _, v := range sel.f["status"] {
		if err := container.ValidateContainerState(container.ContainerState(v)); err != nil {
			return invalid("invalid filter 'status=%s'", v)
		}
		sel.all = true
	}
	for _, v := range sel.f["health"] {
		if err := container.ValidateHealthStatus(container.HealthStatus(v)); err != nil {
			return invalid("invalid filter 'health=%s'", v)
		}
	}
	for _, v := range sel.f["exited"] {
		code, err := strconv.Atoi(v)
		if err != nil {
			return invalid("invalid filter 'exited=%s'", v)
		}
		sel.exited = append(sel.exited, code)
		sel.all = true
	}
	return nil
}

// resolveTimes: "before" and "since" name containers.
func (s *Service) resolveTimes(sel *selection) error {
	for filter, to := range map[string]*time.Time{"before": &sel.before, "since": &sel.since} {
		for _, ref := range sel.f[filter] {
			_, spec, _, err := s.find(ref)
			if err != nil {
				return err
			}
			earlier := to.IsZero() || spec.Created.Before(*to)
			if filter == "before" && earlier || filter == "since" && (to.IsZero() || !earlier) {
				*to = spec.Created
			}
			sel.all = true
		}
	}
	return nil
}

func (sel *selection) parsePorts() error {
	for filter, to := range map[string]*[]network.PortRange{"publish": &sel.publish, "expose": &sel.expose} {
		for _, v := range sel.f[filter] {
			r, err := network.ParsePortRange(v)
			if err != nil {
				return invalid("invalid filter '%s=%s': %v", filter, v, err)
			}
			*to = append(*to, r)
		}
	}
	return nil
}

func (s *Service) resolveAncestors(ctx context.Context, sel *selection) {
	if !sel.f.Has("ancestor") {
		return
	}
	sel.ancestors = map[string]bool{}
	for _, ref := range sel.f["ancestor"] {
		sel.ancestors[ref] = true
		if id, _, err := s.deps.Images.Config(ctx, ref, nil); err == nil {
			sel.ancestors[id] = true
		}
	}
}

func (s *Service) resolveNetworks(ctx context.Context, sel *selection) {
	if !sel.f.Has("network") {
		return
	}
	sel.networks = map[string]bool{}
	for _, ref := range sel.f["network"] {
		sel.networks[ref] = true
		if _, name, _, err := s.deps.Networks.Resolve(ctx, ref); err == nil {
			sel.networks[name] = true
		}
	}
}

func (sel *selection) matches(spec *Spec, state *State) bool {
	if !sel.all && !state.active() || sel.isTask {
		return false
	}
	return matchExpr(sel.ids, spec.ID) &&
		(matchExpr(sel.names, spec.Name) || matchExpr(sel.names, "/"+spec.Name)) &&
		sel.f.Match("status", string(state.Status)) && sel.matchHealth(state) && sel.matchExited(state) &&
		(sel.before.IsZero() || spec.Created.Before(sel.before)) && (sel.since.IsZero() || spec.Created.After(sel.since)) &&
		sel.f.MatchLabels("label", spec.Config.Labels) && sel.f.MatchLabels("annotation", spec.HostConfig.Annotations) &&
		sel.matchAncestor(spec) && sel.matchNetwork(spec, state) &&
		sel.matchVolume(spec) && sel.matchPorts(spec, state) && sel.f.MatchAny("isolation", func(want string) bool { return want == "default" || want == "" })
}

func matchExpr(list []*regexp.Regexp, text string) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(re *regexp.Regexp) bool { return re.MatchString(text) })
}

func (sel *selection) matchHealth(state *State) bool {
	return sel.f.Match("health", string(healthView(state).Status))
}

func (sel *selection) matchExited(state *State) bool {
	return len(sel.exited) == 0 || !state.active() && !state.FinishedAt.IsZero() && slices.Contains(sel.exited, state.ExitCode)
}

// matchAncestor compares ids, and references as they were written when the container was made.
func (sel *selection) matchAncestor(spec *Spec) bool {
	if sel.ancestors == nil || sel.ancestors[spec.ImageID] || sel.ancestors[spec.Config.Image] {
		return true
	}
	for ref := range sel.ancestors {
		if len(ref) >= shortIDLength && strings.HasPrefix(strings.TrimPrefix(spec.ImageID, "sha256:"), ref) {
			return true
		}
	}
	return false
}

func (sel *selection) matchNetwork(spec *Spec, state *State) bool {
	if sel.networks == nil {
		return true
	}
	for _, n := range spec.Networks {
		if sel.networks[n.Ref] {
			return true
		}
		if ep := state.Endpoints[n.Ref]; ep != nil && sel.networks[ep.NetworkID] {
			return true
		}
	}
	return false
}

func (sel *selection) matchVolume(spec *Spec) bool {
	return sel.f.MatchAny("volume", func(want string) bool {
		for _, p := range spec.Mounts {
			if p.Name == want || p.Destination == strings.TrimSuffix(want, "/") || p.Source == want {
				return true
			}
		}
		return false
	})
}

func (sel *selection) matchPorts(spec *Spec, state *State) bool {
	if len(sel.publish) > 0 {
		published := false
		for port, bindings := range state.Ports {
			published = published || inRanges(sel.publish, port)
			for _, b := range bindings {
				host, err := network.ParsePort(b.HostPort + "/" + string(port.Proto()))
				published = published || err == nil && inRanges(sel.publish, host)
			}
		}
		if !published {
			return false
		}
	}
	if len(sel.expose) == 0 {
		return true
	}
	for port := range spec.Config.ExposedPorts {
		if inRanges(sel.expose, port) {
			return true
		}
	}
	return false
}

func inRanges(ranges []network.PortRange, p network.Port) bool {
	return slices.ContainsFunc(ranges, func(r network.PortRange) bool {
		return r.Proto() == p.Proto() && r.Start() <= p.Num() && p.Num() <= r.End()
	})
}
