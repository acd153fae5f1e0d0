//go:build linux

package container

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// List describes the containers that the filters select, the youngest first.
func (s *Service) List(ctx context.Context, o ListOptions) ([]container.Summary, error) {
	sel, err := s.newSelection(ctx, o)
	if err != nil {
		return nil, err
	}
	list := []container.Summary{}
	links := s.linkNames()
	for _, c := range s.reg.all() {
		if o.Limit > 0 && len(list) == o.Limit {
			break
		}
		spec, state := c.view()
		if !sel.matches(spec, state) {
			continue
		}
		summary := s.summary(ctx, spec, state, sel.now)
		summary.Names = append(summary.Names, links[spec.Name]...)
		if o.Size {
			// A container that goes while it is looked at has no size.
			if rw, total, err := s.deps.Images.RootFSSize(ctx, spec.ID); err == nil {
				summary.SizeRw, summary.SizeRootFs = rw, total
			}
		}
		list = append(list, summary)
	}
	return list, ctx.Err()
}

// linkNames are what containers are called by others that are linked to them: /OTHER/ALIAS.
func (s *Service) linkNames() map[string][]string {
	names := map[string][]string{}
	for _, c := range s.reg.all() {
		spec, _ := c.view()
		for _, link := range spec.HostConfig.Links {
			if name, alias, err := linked(link); err == nil {
				names[name] = append(names[name], "/"+spec.Name+"/"+alias)
			}
		}
	}
	return names
}

func (s *Service) summary(ctx context.Context, spec *Spec, state *State, now time.Time) container.Summary {
	v := container.Summary{
		ID: spec.ID, Names: []string{"/" + spec.Name}, Image: spec.Config.Image, ImageID: spec.ImageID, Command: command(spec.Args),
		Created: spec.Created.Unix(), Ports: portViews(spec, state), Labels: spec.Config.Labels, State: state.Status,
		Status: statusText(state, now), Mounts: mountViews(spec), Health: healthView(state),
		NetworkSettings: &container.NetworkSettingsSummary{Networks: s.endpointViews(ctx, spec, state)},
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	v.HostConfig.NetworkMode = string(spec.HostConfig.NetworkMode)
	v.HostConfig.Annotations = spec.HostConfig.Annotations
	return v
}

// command is the whole command line; arguments with a space are quoted.
func command(args []string) string {
	parts := make([]string, len(args))
	for i, a := range args {
		parts[i] = a
		if i > 0 && strings.Contains(a, " ") {
			parts[i] = "'" + a + "'"
		}
	}
	return strings.Join(parts, " ")
}

func healthView(state *State) *container.HealthSummary {
	if state.Health == nil {
		return &container.HealthSummary{Status: container.NoHealthcheck}
	}
	return &container.HealthSummary{Status: state.Health.Status, FailingStreak: state.Health.FailingStreak}
}

// statusText is what docker ps shows.
func statusText(s *State, now time.Time) string {
	since := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch s.Status {
	case container.StateRunning:
		return "Up " + since(s.StartedAt) + healthText(s)
	case container.StatePaused:
		return "Up " + since(s.StartedAt) + " (Paused)"
	case container.StateRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, since(s.FinishedAt))
	case container.StateRemoving:
		return "Removal In Progress"
	case container.StateDead:
		return "Dead"
	case container.StateCreated:
		return "Created"
	}
	if s.FinishedAt.IsZero() {
		return "Created"
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, since(s.FinishedAt))
}

func healthText(s *State) string {
	switch {
	case s.Health == nil:
		return ""
	case s.Health.Status == container.Starting:
		return " (health: starting)"
	}
	return " (" + string(s.Health.Status) + ")"
}

// portViews lists what is published, and what is exposed only.
func portViews(spec *Spec, state *State) []container.PortSummary {
	list := []container.PortSummary{}
	for port, bindings := range openPorts(spec, state) {
		if len(bindings) == 0 {
			list = append(list, container.PortSummary{PrivatePort: port.Num(), Type: string(port.Proto())})
		}
		for _, b := range bindings {
			list = append(list, publishedView(port, b))
		}
	}
	slices.SortFunc(list, func(a, b container.PortSummary) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(a.PublicPort, b.PublicPort),
			cmp.Compare(a.Type, b.Type), a.IP.Compare(b.IP))
	})
	return list
}

func publishedView(port network.Port, b network.PortBinding) container.PortSummary {
	public, _ := strconv.ParseUint(b.HostPort, 10, 16)
	ip := b.HostIP
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	return container.PortSummary{IP: ip, PrivatePort: port.Num(), PublicPort: uint16(public), Type: string(port.Proto())}
}
