package api

import (
	"net/http"
	"time"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	evt "github.com/getberth/berth/engine/events"
)

func ping(c *call) error {
	header := c.w.Header()
	header.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	header.Set("Pragma", "no-cache")
	header.Set("Swarm", "inactive")
	header.Set("Content-Type", "text/plain; charset=utf-8")
	if c.r.Method == http.MethodHead {
		header.Set("Content-Length", "0")
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	_, err := c.w.Write([]byte("OK"))
	return err
}

func systemVersion(c *call) error {
	v, err := c.System.Version(c.ctx())
	return reply(c, http.StatusOK, v, err)
}

func systemInfo(c *call) error {
	info, err := c.System.Info(c.ctx())
	if err != nil {
		return err
	}
	extra := map[string]any{}
	if c.v < 44 {
		for name, r := range info.Runtimes {
			info.Runtimes[name] = system.RuntimeWithStatus{Runtime: r.Runtime}
		}
	}
	if c.v < 46 {
		info.Containerd = nil
	}
	if c.v < 49 {
		info.FirewallBackend = nil
		for name, id := range map[string]string{
			"ContainerdCommit": info.ContainerdCommit.ID, "RuncCommit": info.RuncCommit.ID, "InitCommit": info.InitCommit.ID,
		} {
			extra[name] = map[string]any{"Expected": id}
		}
	}
	if c.v < 50 {
		info.DiscoveredDevices = nil
		extra["BridgeNfIptables"], extra["BridgeNfIp6tables"] = false, false
	}
	if c.v < 53 {
		info.NRI = nil
	}
	return c.json(http.StatusOK, withFields(info, extra))
}

func systemAuth(c *call) error {
	var auth registry.AuthConfig
	if err := c.body(&auth); err != nil {
		return err
	}
	answer, err := c.Images.Login(c.ctx(), auth)
	return reply(c, http.StatusOK, answer, err)
}

// systemEvents sends what has happened since a moment and what happens, until another moment or the client's end.
func systemEvents(c *call) error {
	since, err := c.time("since")
	if err != nil {
		return err
	}
	until, err := c.time("until")
	if err != nil {
		return err
	}
	if !until.IsZero() && until.Before(since) {
		return invalid("`since` time (%s) cannot be after `until` time (%s)", c.get("since"), c.get("until"))
	}
	filters, err := c.filters()
	if err != nil {
		return err
	}
	if err := evt.CheckFilters(filters); err != nil {
		return err
	}
	past, next, cancel := c.Events.Subscribe(filters)
	defer cancel()
	out, err := c.startObjects(eventsMedia(c.v))
	if err != nil {
		return nil // the client has gone
	}
	for _, m := range past {
		if wanted := !since.IsZero() || !until.IsZero(); !wanted || !within(m, since, until) {
			continue
		}
		if c.sendEvent(out, m) != nil {
			return nil
		}
	}
	c.followEvents(out, next, until)
	return nil
}

func eventsMedia(v version) string {
	if v < 52 {
		return types.MediaTypeJSON
	}
	return types.MediaTypeJSONLines
}

func within(m events.Message, since, until time.Time) bool {
	return m.TimeNano >= since.UnixNano() && (until.IsZero() || m.TimeNano <= until.UnixNano())
}

func (c *call) followEvents(out objects, next <-chan events.Message, until time.Time) {
	var end <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		end = timer.C
	}
	for {
		select {
		case m, ok := <-next:
			if !ok || !until.IsZero() && !within(m, time.Time{}, until) || c.sendEvent(out, m) != nil {
				return
			}
		case <-end:
			return
		case <-c.ctx().Done():
			return
		}
	}
}

// sendEvent writes an event. Clients of before API 1.52 read fields that were deprecated long before.
func (c *call) sendEvent(out objects, m events.Message) error {
	if c.v >= 52 || m.Type != events.ContainerEventType && m.Type != events.ImageEventType {
		return out.send(m)
	}
	if c.v < 46 && m.Type == events.ImageEventType && m.Action == events.ActionCreate {
		return nil
	}
	extra := map[string]any{"id": m.Actor.ID, "status": m.Action}
	if m.Type == events.ContainerEventType {
		extra["from"] = m.Actor.Attributes["image"]
	}
	return out.send(withFields(m, extra))
}

// legacyUsage is what `system df` answered before API 1.52.
type legacyUsage struct {
	LayersSize int64
	Images     []any               `json:",omitzero"`
	Containers []container.Summary `json:",omitzero"`
	Volumes    []volume.Volume     `json:",omitzero"`
	BuildCache []build.CacheRecord `json:",omitzero"`
}

type bothUsages struct {
	*legacyUsage
	*system.DiskUsage
}

func systemDiskUsage(c *call) error {
	kinds, err := c.usageKinds()
	if err != nil {
		return err
	}
	verbose := c.v >= 52 && c.flag("verbose")
	usage, err := c.System.DiskUsage(c.ctx(), kinds, verbose || c.v < 52 || !c.query.Has("verbose"))
	if err != nil {
		return err
	}
	if verbose {
		return c.json(http.StatusOK, usage)
	}
	old := c.legacyUsage(usage)
	if c.v < 52 {
		return c.json(http.StatusOK, old)
	}
	return c.json(http.StatusOK, bothUsages{&old, &usage})
}

func (c *call) usageKinds() ([]string, error) {
	all := []string{string(system.ContainerObject), string(system.ImageObject), string(system.VolumeObject), string(system.BuildCacheObject)}
	asked := c.query["type"]
	if c.v < 42 || len(asked) == 0 {
		return all, nil
	}
	for _, kind := range asked {
		switch system.DiskUsageObject(kind) {
		case system.ContainerObject, system.ImageObject, system.VolumeObject, system.BuildCacheObject:
		default:
			return nil, invalid("unknown object type: %s", kind)
		}
	}
	return asked, nil
}

func (c *call) legacyUsage(u system.DiskUsage) legacyUsage {
	var old legacyUsage
	if u.ImageUsage != nil {
		old.LayersSize = u.ImageUsage.TotalSize
		old.Images = c.trimImages(u.ImageUsage.Items)
	}
	if u.ContainerUsage != nil {
		old.Containers = list(u.ContainerUsage.Items)
	}
	if u.VolumeUsage != nil {
		old.Volumes = list(u.VolumeUsage.Items)
	}
	if u.BuildCacheUsage != nil {
		old.BuildCache = list(u.BuildCacheUsage.Items)
	}
	return old
}

// trimImages are images as the client's API version has them.
func (c *call) trimImages(images []image.Summary) []any {
	trimmed := make([]any, 0, len(images))
	for _, i := range images {
		trimmed = append(trimmed, c.trimImage(i))
	}
	return trimmed
}
