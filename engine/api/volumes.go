package api

import (
	"net/http"

	"github.com/moby/moby/api/types/volume"
)

func volumeList(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	volumes, err := c.Volumes.List(c.ctx(), filters)
	if err != nil {
		return err
	}
	volumes.Volumes = list(volumes.Volumes)
	return c.json(http.StatusOK, volumes)
}

func volumeInspect(c *call) error {
	v, err := c.Volumes.Inspect(c.ctx(), c.vars["name"])
	return reply(c, http.StatusOK, v, err)
}

func volumeCreate(c *call) error {
	var req volume.CreateRequest
	if err := c.body(&req); err != nil {
		return err
	}
	if req.ClusterVolumeSpec != nil {
		return refusal("cluster volumes")
	}
	v, err := c.Volumes.Create(c.act(), req)
	return reply(c, http.StatusCreated, v, err)
}

func volumeRemove(c *call) error {
	return c.done(http.StatusNoContent, c.Volumes.Remove(c.act(), c.vars["name"], c.flag("force")))
}

// volumePrune removes anonymous volumes; before API 1.42 it removed named ones too.
func volumePrune(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	if c.v < 42 {
		filters.Add("all", "true")
	}
	report, err := c.Volumes.Prune(c.act(), filters)
	report.VolumesDeleted = list(report.VolumesDeleted)
	return reply(c, http.StatusOK, report, err)
}
