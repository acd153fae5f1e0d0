package api

import (
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/plugin"
)

// refused is a route that Docker has and berth has not: it says what is missing and, where there is one, another way.
func refused(method, path string, a access, what string, hint ...string) route {
	err := refusal(what)
	if len(hint) > 0 {
		err = errdefs.ErrNotImplemented.WithMessage(err.Error() + "\nhint: " + strings.Join(hint, " "))
	}
	return route{method, path, oldest, a, func(*call) error { return err }, "501: " + what + ": not supported"}
}

func refusal(what string) error {
	return errdefs.ErrNotImplemented.WithMessage(what + ": not supported by berthd")
}

// noSwarm is a route of a swarm, answered as Docker does where there is none.
func noSwarm(method, path string, a access) route {
	err := errdefs.ErrUnavailable.WithMessage("This node is not a swarm manager. Use \"docker swarm init\" or " +
		"\"docker swarm join\" to connect this node to swarm and try again.")
	return route{method, path, oldest, a, func(*call) error { return err }, "503: the machine is in no swarm"}
}

// buildPrune lets `docker system prune` pass.
func buildPrune(c *call) error {
	return c.json(http.StatusOK, build.CachePruneReport{CachesDeleted: []string{}})
}

func pluginList(c *call) error { return c.json(http.StatusOK, []plugin.Plugin{}) }
