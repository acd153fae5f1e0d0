package api

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/container"

	ctr "github.com/getberth/berth/engine/container"
)

func execCreate(c *call) error {
	var req container.ExecCreateRequest
	if err := c.body(&req); err != nil {
		return err
	}
	if len(req.Cmd) == 0 {
		return invalid("No exec command specified")
	}
	if c.v < 42 {
		req.ConsoleSize = nil
	}
	id, err := c.Containers.ExecCreate(c.act(), c.vars["name"], req)
	return reply(c, http.StatusCreated, container.ExecCreateResponse{ID: id}, err)
}

func execStart(c *call) error {
	var req container.ExecStartRequest
	if err := c.body(&req); err != nil {
		return err
	}
	o := ctr.ExecStartOptions{Detach: req.Detach, TTY: req.Tty}
	if req.ConsoleSize != nil && req.Tty && c.v >= 42 {
		o.ConsoleSize = *req.ConsoleSize
	}
	if o.Detach {
		return c.done(http.StatusOK, c.Containers.ExecStart(c.act(), c.vars["id"], o, nil))
	}
	return c.takeOver(func(ctx context.Context, open ctr.Opener) error {
		return c.Containers.ExecStart(ctx, c.vars["id"], o, open)
	}, reportOutput)
}

func execResize(c *call) error {
	width, height, err := c.size()
	if err != nil {
		return err
	}
	return c.done(http.StatusOK, c.Containers.ExecResize(c.ctx(), c.vars["id"], width, height))
}

func execInspect(c *call) error {
	i, err := c.Containers.ExecInspect(c.ctx(), c.vars["id"])
	return reply(c, http.StatusOK, i, err)
}
