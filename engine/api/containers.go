package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/storage"

	ctr "github.com/getberth/berth/engine/container"
)

func containerList(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	limit, err := c.number("limit")
	if err != nil {
		return err
	}
	o := ctr.ListOptions{All: c.flag("all"), Size: c.flag("size"), Filters: filters}
	if limit != nil {
		o.Limit = max(0, *limit) // -1, as old SDKs send it, is no limit
	}
	containers, err := c.Containers.List(c.ctx(), o)
	if err != nil {
		return err
	}
	for i := range containers {
		c.trimSummary(&containers[i])
	}
	return c.json(http.StatusOK, list(containers))
}

func (c *call) trimSummary(s *container.Summary) {
	s.Names, s.Ports, s.Mounts, s.Labels = list(s.Names), list(s.Ports), list(s.Mounts), dict(s.Labels)
	if c.v < 46 {
		s.HostConfig.Annotations = nil
	}
	if c.v < 48 {
		s.ImageManifestDescriptor = nil
	}
	if c.v < 52 {
		s.Health = nil
	}
}

func containerInspect(c *call) error {
	i, err := c.Containers.Inspect(c.ctx(), c.vars["name"], c.flag("size"))
	if err != nil {
		return err
	}
	i.Args, i.Mounts = list(i.Args), list(i.Mounts)
	if i.NetworkSettings == nil {
		i.NetworkSettings = &container.NetworkSettings{}
	}
	i.NetworkSettings.Ports, i.NetworkSettings.Networks = dict(i.NetworkSettings.Ports), dict(i.NetworkSettings.Networks)
	if c.v < 48 {
		i.ImageManifestDescriptor = nil
	}
	return c.json(http.StatusOK, withFields(i, c.legacyInspect(&i)))
}

// legacyInspect takes from and adds to what inspect shows for clients of before API 1.52.
func (c *call) legacyInspect(i *container.InspectResponse) map[string]any {
	if c.v >= 52 {
		return nil
	}
	if i.GraphDriver == nil {
		i.GraphDriver = &storage.DriverData{Name: i.Driver}
	}
	i.Storage = nil
	bridge := i.NetworkSettings.Networks["bridge"]
	if bridge == nil {
		return nil
	}
	return map[string]any{"NetworkSettings": map[string]any{
		"EndpointID": bridge.EndpointID, "MacAddress": bridge.MacAddress,
		"Gateway": bridge.Gateway, "IPAddress": bridge.IPAddress, "IPPrefixLen": bridge.IPPrefixLen,
		"IPv6Gateway": bridge.IPv6Gateway, "GlobalIPv6Address": bridge.GlobalIPv6Address, "GlobalIPv6PrefixLen": bridge.GlobalIPv6PrefixLen,
	}}
}

func containerTop(c *call) error {
	top, err := c.Containers.Top(c.ctx(), c.vars["name"], c.get("ps_args"))
	return reply(c, http.StatusOK, top, err)
}

func containerChanges(c *call) error {
	changes, err := c.Containers.Changes(c.ctx(), c.vars["name"])
	return reply(c, http.StatusOK, list(changes), err)
}

func containerExport(c *call) error {
	return c.Containers.Export(c.ctx(), c.vars["name"], lazyBody{c, "application/octet-stream"})
}

func containerStats(c *call) error {
	stream := c.flagOr("stream", true)
	oneShot := c.v >= 41 && c.flag("one-shot")
	if stream && oneShot {
		return invalid("cannot have stream=true and one-shot=true")
	}
	out := objects{c: c}
	return c.Containers.Stats(c.ctx(), c.vars["name"], stream, oneShot, func(s container.StatsResponse) error {
		if !c.w.started {
			c.w.Header().Set("Content-Type", "application/json")
		}
		return out.send(s)
	})
}

func containerLogs(c *call) error {
	o := ctr.LogsOptions{
		Stdout: c.flag("stdout"), Stderr: c.flag("stderr"), Follow: c.flag("follow"),
		Timestamps: c.flag("timestamps"), Details: c.flag("details"), Tail: -1,
	}
	if !o.Stdout && !o.Stderr {
		return invalid("must specify at least one of 'stdout' or 'stderr'")
	}
	var err error
	if o.Since, err = c.time("since"); err != nil {
		return err
	}
	if c.get("until") != "0" {
		if o.Until, err = c.time("until"); err != nil {
			return err
		}
	}
	if o.Tail, err = c.tail(); err != nil {
		return err
	}
	return c.sendLogs(o)
}

// tail is how many lines a client wants; negative is all.
func (c *call) tail() (int, error) {
	if text := c.get("tail"); text == "" || text == "all" {
		return -1, nil
	}
	n, err := c.number("tail")
	if err != nil {
		return 0, err
	}
	return *n, nil
}

func (c *call) sendLogs(o ctr.LogsOptions) error {
	var opened ctr.Streams
	var raw bool
	open := c.openLogs(o.Follow)
	err := c.Containers.Logs(c.ctx(), c.vars["name"], o, func(tty bool) (s ctr.Streams, err error) {
		raw = tty
		opened, err = open(tty)
		return opened, err
	})
	if err == nil || opened.Stdout == nil || c.ctx().Err() != nil {
		return err
	}
	if m, ok := opened.Stdout.(muxStream); ok && !raw {
		fmt.Fprintf(m.mux.stream(stdcopy.Systemerr), "Error grabbing logs: %v\n\n", err)
	}
	return nil
}

func containerStart(c *call) error {
	if c.r.ContentLength > 7 || c.r.ContentLength == -1 {
		return invalid("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	if id := c.get("checkpoint"); id != "" {
		if !regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`).MatchString(id) {
			return invalid("invalid checkpoint ID %q", id)
		}
		return refusal("starting from a checkpoint")
	}
	return c.done(http.StatusNoContent, c.Containers.Start(c.act(), c.vars["name"]))
}

func containerStop(c *call) error {
	o, err := c.stopOptions()
	if err != nil {
		return err
	}
	return c.done(http.StatusNoContent, c.Containers.Stop(c.act(), c.vars["name"], o))
}

func containerRestart(c *call) error {
	o, err := c.stopOptions()
	if err != nil {
		return err
	}
	return c.done(http.StatusNoContent, c.Containers.Restart(c.act(), c.vars["name"], o))
}

func (c *call) stopOptions() (o ctr.StopOptions, err error) {
	if c.v >= 42 {
		o.Signal = c.get("signal")
	}
	o.Timeout, err = c.number("t")
	return o, err
}

func containerKill(c *call) error {
	return c.done(http.StatusNoContent, c.Containers.Kill(c.act(), c.vars["name"], c.get("signal")))
}

func containerPause(c *call) error {
	return c.done(http.StatusNoContent, c.Containers.Pause(c.act(), c.vars["name"]))
}

func containerUnpause(c *call) error {
	return c.done(http.StatusNoContent, c.Containers.Unpause(c.act(), c.vars["name"]))
}

func containerRename(c *call) error {
	return c.done(http.StatusNoContent, c.Containers.Rename(c.act(), c.vars["name"], c.get("name")))
}

func containerRemove(c *call) error {
	o := ctr.RemoveOptions{Force: c.flag("force"), Volumes: c.flag("v"), Link: c.flag("link")}
	return c.done(http.StatusNoContent, c.Containers.Remove(c.act(), c.vars["name"], o))
}

func containerPrune(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	report, err := c.Containers.Prune(c.act(), filters)
	report.ContainersDeleted = list(report.ContainersDeleted)
	return reply(c, http.StatusOK, report, err)
}

func containerUpdate(c *call) error {
	var u container.UpdateConfig
	if err := c.body(&u); err != nil {
		return err
	}
	if c.v < 40 {
		u.PidsLimit = nil
	}
	if c.v < 55 {
		u.BlkioWeightDevice, u.BlkioDeviceReadBps, u.BlkioDeviceWriteBps = nil, nil, nil
		u.BlkioDeviceReadIOps, u.BlkioDeviceWriteIOps = nil, nil
	}
	if u.PidsLimit != nil && *u.PidsLimit <= 0 {
		u.PidsLimit = new(int64) // 0 and every negative number are no limit
	}
	answer, err := c.Containers.Update(c.act(), c.vars["name"], u)
	answer.Warnings = list(answer.Warnings)
	return reply(c, http.StatusOK, answer, err)
}

// containerWait sends its headers as soon as the wait has begun: a client starts the container only then.
func containerWait(c *call) error {
	condition := container.WaitConditionNotRunning
	if text := c.get("condition"); text != "" && c.v >= 30 {
		condition = container.WaitCondition(text)
	}
	switch condition {
	case container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
	default:
		return invalid("invalid condition: %q", string(condition))
	}
	result, err := c.Containers.Wait(c.ctx(), c.vars["name"], condition)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	if c.v >= 30 && c.w.Flush() != nil {
		return nil
	}
	select {
	case <-c.ctx().Done():
		return nil
	case r := <-result:
		answer := container.WaitResponse{StatusCode: int64(r.Code)}
		if r.Err != nil {
			answer.Error = &container.WaitExitError{Message: r.Err.Error()}
		}
		return objects{c: c}.send(answer)
	}
}

func containerAttach(c *call) error {
	o := c.attachOptions()
	return c.takeOver(func(ctx context.Context, open ctr.Opener) error {
		return c.Containers.Attach(ctx, c.vars["name"], o, open)
	}, reportError)
}

func (c *call) attachOptions() ctr.AttachOptions {
	return ctr.AttachOptions{
		Stdin: c.flag("stdin"), Stdout: c.flag("stdout"), Stderr: c.flag("stderr"),
		Logs: c.flag("logs"), Stream: c.flag("stream"), DetachKeys: c.get("detachKeys"),
	}
}

func containerResize(c *call) error {
	width, height, err := c.size()
	if err != nil {
		return err
	}
	return c.done(http.StatusOK, c.Containers.Resize(c.ctx(), c.vars["name"], width, height))
}

// size reads a terminal's width and height.
func (c *call) size() (width, height uint16, err error) {
	if height, err = c.extent("h", "height"); err != nil {
		return 0, 0, err
	}
	width, err = c.extent("w", "width")
	return width, height, err
}

func (c *call) extent(name, word string) (uint16, error) {
	text := c.get(name)
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return 0, invalid("invalid resize %s %q: invalid syntax", word, text)
	case err != nil || n < 0 || n > 1<<16-1: // winsize's fields are unsigned shorts
		return 0, invalid("invalid resize %s %q: value out of range", word, text)
	}
	return uint16(n), nil
}

func containerCommit(c *call) error {
	ref, err := repoTag(c.get("repo"), c.get("tag"))
	if err != nil {
		return err
	}
	var body struct{ *container.Config }
	if err := c.body(&body); err != nil {
		return err
	}
	id, err := c.Containers.Commit(c.act(), c.get("container"), ctr.CommitOptions{
		Ref: ref, Comment: c.get("comment"), Author: c.get("author"),
		Pause: c.flagOr("pause", true), Changes: c.query["changes"], Config: body.Config,
	})
	return reply(c, http.StatusCreated, container.CommitResponse{ID: id}, err)
}

// repoTag is an image's name as two parameters give it, with the tag "latest" where there is none; empty without a repository.
func repoTag(repo, tag string) (string, error) {
	if repo == "" {
		return "", nil
	}
	ref, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return "", invalid("%v", err)
	}
	if _, ok := ref.(reference.Digested); ok {
		return "", invalid("cannot import digest reference")
	}
	if tag != "" {
		if ref, err = reference.WithTag(ref, tag); err != nil {
			return "", invalid("%v", err)
		}
	}
	return reference.FamiliarString(reference.TagNameOnly(ref)), nil
}
