package api

import (
	"net/http"

	"github.com/moby/moby/api/types/network"
)

func networkList(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	networks, err := c.Networks.List(c.ctx(), filters)
	if err != nil {
		return err
	}
	if c.v < 52 {
		return c.json(http.StatusOK, legacyNetworks(networks))
	}
	for i := range networks {
		normalizeNetwork(&networks[i].Network)
	}
	return c.json(http.StatusOK, list(networks))
}

// legacyNetworks are what the list was made of before API 1.52: the same type as inspect's, without its containers.
func legacyNetworks(networks []network.Summary) []network.Inspect {
	old := make([]network.Inspect, 0, len(networks))
	for _, n := range networks {
		normalizeNetwork(&n.Network)
		old = append(old, network.Inspect{Network: n.Network, Containers: map[string]network.EndpointResource{}})
	}
	return old
}

func normalizeNetwork(n *network.Network) {
	n.Options, n.Labels, n.IPAM.Config = dict(n.Options), dict(n.Labels), list(n.IPAM.Config)
}

func networkInspect(c *call) error {
	n, err := c.Networks.Inspect(c.ctx(), c.vars["id"])
	if err != nil {
		return err
	}
	normalizeNetwork(&n.Network)
	n.Containers = dict(n.Containers)
	if c.v < 52 {
		n.Status = nil
	}
	return c.json(http.StatusOK, n)
}

func networkCreate(c *call) error {
	var req network.CreateRequest
	if err := c.body(&req); err != nil {
		return err
	}
	if c.v < 48 {
		req.EnableIPv4 = nil
	}
	answer, err := c.Networks.Create(c.act(), req)
	return reply(c, http.StatusCreated, answer, err)
}

func networkConnect(c *call) error {
	var req network.ConnectRequest
	if err := c.body(&req); err != nil {
		return err
	}
	if c.v < 54 && req.EndpointConfig != nil {
		req.EndpointConfig.MacAddress = nil
	}
	return c.done(http.StatusOK, c.Containers.ConnectNetwork(c.act(), c.vars["id"], req.Container, req.EndpointConfig))
}

func networkDisconnect(c *call) error {
	var req network.DisconnectRequest
	if err := c.body(&req); err != nil {
		return err
	}
	return c.done(http.StatusOK, c.Containers.DisconnectNetwork(c.act(), c.vars["id"], req.Container, req.Force))
}

func networkRemove(c *call) error {
	return c.done(http.StatusNoContent, c.Networks.Remove(c.act(), c.vars["id"]))
}

func networkPrune(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	report, err := c.Networks.Prune(c.act(), filters)
	report.NetworksDeleted = list(report.NetworksDeleted)
	return reply(c, http.StatusOK, report, err)
}
