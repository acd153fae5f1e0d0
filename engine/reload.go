//go:build linux

package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/events"

	"github.com/getberth/berth/engine/config"
)

// Reloadable are the directives that a running engine takes over, which are dockerd's. Those of the level of messages are seen to
// by who starts the engine.
func Reloadable() []string {
	return []string{
		"debug", "log-level", "labels", "features", "registry-mirrors", "insecure-registries", "max-concurrent-downloads",
		"max-concurrent-uploads", "max-download-attempts", "shutdown-timeout", "default-stop-timeout", "default-shm-size", "default-ipc-mode",
		"default-cgroupns-mode", "live-restore", "default-runtime",
	}
}

// reload takes over configurations until ctx ends.
func (e *engine) reload(ctx context.Context) {
	for {
		select {
		case c := <-e.o.Reload:
			e.takeOver(c)
		case <-ctx.Done():
			return
		}
	}
}

func (e *engine) takeOver(c config.Config) {
	next, late := merge(e.current(), c)
	if len(late) > 0 {
		e.log.Warn("these directives take a restart of the engine", "directives", strings.Join(late, " "))
	}
	if err := e.images.Reconfigure(imageSettings(next)); err != nil {
		e.log.Error("the configuration stays as it was", "error", err)
		return
	}
	e.containers.SetDefaults(containerDefaults(next))
	e.reloaded.Store(&next)
	e.log.Info("the configuration is read again")
	e.events.Publish(events.Message{
		Type: events.DaemonEventType, Action: events.ActionReload, Actor: events.Actor{ID: e.host.id, Attributes: reloadAttributes(next, e.host.name)},
	})
}

// merge puts what can change of a new configuration into the old one. late are the other directives that differ.
func merge(old, c config.Config) (next config.Config, late []string) {
	next = old
	from, to := reflect.ValueOf(c), reflect.ValueOf(&next).Elem()
	for i := range to.NumField() {
		name, _, _ := strings.Cut(to.Type().Field(i).Tag.Get("json"), ",")
		switch {
		case slices.Contains(Reloadable(), name):
			to.Field(i).Set(from.Field(i))
		case !reflect.DeepEqual(from.Field(i).Interface(), to.Field(i).Interface()):
			late = append(late, name)
		}
	}
	return next, late
}

// reloadAttributes are dockerd's.
func reloadAttributes(c config.Config, name string) map[string]string {
	return map[string]string{
		"name": name, "debug": strconv.FormatBool(c.Debug), "labels": asJSON(c.Labels), "features": fmt.Sprint(c.Features),
		"registry-mirrors": asJSON(c.RegistryMirrors), "insecure-registries": asJSON(c.InsecureRegistries),
		"max-concurrent-downloads": strconv.Itoa(c.MaxConcurrentDownloads), "max-concurrent-uploads": strconv.Itoa(c.MaxConcurrentUploads),
		"max-download-attempts": strconv.Itoa(c.MaxDownloadAttempts), "shutdown-timeout": strconv.Itoa(c.ShutdownTimeout),
		"default-stop-timeout": strconv.Itoa(*c.DefaultStopTimeout), "default-shm-size": c.DefaultShmSize.String(),
		"default-ipc-mode": c.DefaultIPCMode, "default-cgroupns-mode": c.DefaultCgroupnsMode, "live-restore": strconv.FormatBool(c.ContainersStay()),
		"default-runtime": c.DefaultRuntime, "runtimes": "",
	}
}

func asJSON(list []string) string {
	data, _ := json.Marshal(nonNil(list))
	return string(data)
}
