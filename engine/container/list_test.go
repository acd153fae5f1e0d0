//go:build linux

package container

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/getberth/berth/engine/filter"
)

func TestStatusText(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for want, s := range map[string]State{
		"Up 3 minutes":                  {Status: "running", StartedAt: ago(3 * time.Minute)},
		"Up 3 minutes (healthy)":        {Status: "running", StartedAt: ago(3 * time.Minute), Health: &container.Health{Status: "healthy"}},
		"Up 2 hours (health: starting)": {Status: "running", StartedAt: ago(2 * time.Hour), Health: &container.Health{Status: "starting"}},
		"Up Less than a second":         {Status: "running", StartedAt: now},
		"Up 2 hours (Paused)":           {Status: "paused", StartedAt: ago(2 * time.Hour)},
		"Exited (0) 2 seconds ago":      {Status: "exited", FinishedAt: ago(2 * time.Second)},
		"Restarting (1) 5 seconds ago":  {Status: "restarting", ExitCode: 1, FinishedAt: ago(5 * time.Second)},
		"Created":                       {Status: "created"},
	} {
		if got := statusText(&s, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestListFilters(t *testing.T) {
	r := newRig(t)
	web := r.run("web-1", func(c *container.Config, h *container.HostConfig) {
		c.Labels = map[string]string{"app": "shop", "tier": "front"}
		c.ExposedPorts = network.PortSet{network.MustParsePort("80"): {}}
		h.PortBindings = network.PortMap{network.MustParsePort("80"): {{HostPort: "8080"}}}
		h.Binds = []string{"data:/srv"}
		h.Annotations = map[string]string{"note": "one"}
	})
	r.run("db-1", func(c *container.Config, h *container.HostConfig) {
		c.Labels = map[string]string{"app": "shop"}
		c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "x"}}
		h.NetworkMode = "own"
	})
	r.create("made", nil)
	ended := r.run("ended", nil)
	r.exits(ended, 3)
	for text, want := range map[string]string{
		"":                      "db-1 web-1",
		"all":                   "ended made db-1 web-1",
		"limit":                 "ended",
		"status=exited":         "ended",
		"status=created":        "made",
		"annotation=note":       "web-1",
		"annotation=note=two":   "",
		"exited=3":              "ended",
		"exited=0":              "",
		"name=1":                "db-1 web-1",
		"name=^/web-1$":         "web-1",
		"name=^web":             "web-1",
		"id=" + web[:8]:         "web-1",
		"label=tier":            "web-1",
		"label=app=shop":        "db-1 web-1",
		"label=app=x":           "",
		"ancestor=busybox":      "db-1 web-1",
		"ancestor=other":        "",
		"ancestor=111111111111": "db-1 web-1",
		"network=own":           "db-1",
		"network=id-own":        "db-1",
		"network=bridge":        "web-1",
		"volume=data":           "web-1",
		"volume=/srv":           "web-1",
		"publish=8080":          "web-1",
		"publish=80":            "web-1",
		"publish=70-90/udp":     "",
		"expose=79-81/tcp":      "web-1",
		"health=starting":       "db-1",
		"health=none":           "web-1",
		"since=web-1":           "ended made db-1",
		"before=made":           "db-1 web-1",
		"is-task=true":          "",
	} {
		o := ListOptions{All: text == "all", Filters: filter.Args{}}
		if text == "limit" {
			o.Limit = 1
		}
		if name, value, ok := strings.Cut(text, "="); ok {
			o.Filters.Add(name, value)
		}
		list, err := r.List(t.Context(), o)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		var names []string
		for _, c := range list {
			names = append(names, strings.TrimPrefix(c.Names[0], "/"))
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%q selects %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{"bogus=1", "status=x", "exited=x", "health=x", "name=(", "publish=x", "is-task=maybe"} {
		name, value, _ := strings.Cut(text, "=")
		if _, err := r.List(t.Context(), ListOptions{Filters: filter.Args{name: {value}}}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestSummary(t *testing.T) {
	r := newRig(t)
	r.run("web", func(c *container.Config, h *container.HostConfig) {
		c.Cmd = []string{"sh", "-c", "sleep 1"}
		c.ExposedPorts = network.PortSet{network.MustParsePort("80"): {}, network.MustParsePort("443"): {}}
		h.PortBindings = network.PortMap{network.MustParsePort("80"): {{HostPort: "8080"}}}
	})
	list, err := r.List(t.Context(), ListOptions{})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	got := list[0]
	if got.Command != "sh -c 'sleep 1'" || got.State != "running" || got.Labels == nil || got.HostConfig.NetworkMode != "bridge" {
		t.Errorf("summary is %+v", got)
	}
	if len(got.Ports) != 2 || got.Ports[0].PublicPort != 8080 || got.Ports[0].IP.String() != "0.0.0.0" || got.Ports[1].PrivatePort != 443 || got.Ports[1].PublicPort != 0 {
		t.Errorf("ports are %+v", got.Ports)
	}
}

func TestPrune(t *testing.T) {
	r := newRig(t)
	r.run("runs", nil)
	keep := r.create("keep", func(c *container.Config, _ *container.HostConfig) { c.Labels = map[string]string{"keep": ""} })
	gone := r.create("gone", nil)
	report, err := r.Prune(t.Context(), filter.Args{"label!": {"keep"}})
	if err != nil || !slices.Equal(report.ContainersDeleted, []string{gone}) || report.SpaceReclaimed != 5 {
		t.Errorf("%+v, %v", report, err)
	}
	if r.status(keep) != container.StateCreated || r.status("runs") != container.StateRunning {
		t.Error("too much was pruned")
	}
}
