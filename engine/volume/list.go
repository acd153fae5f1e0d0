package volume

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"

	"github.com/getberth/berth/engine/filter"
)

// List shows the volumes that match, sorted by name. Filters: dangling, driver, label, name. A volume whose document is
// damaged is listed, with a warning.
func (s *Service) List(ctx context.Context, f filter.Args) (volume.ListResponse, error) {
	if err := f.Allowed("dangling", "driver", "label", "name"); err != nil {
		return volume.ListResponse{}, err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return volume.ListResponse{}, err
	}
	result := volume.ListResponse{Volumes: []volume.Volume{}, Warnings: []string{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.volumes)) {
		r := s.volumes[name]
		if f.Has("dangling") && dangling != (len(r.refs) == 0) || !matches(f, r.meta) {
			continue
		}
		result.Volumes = append(result.Volumes, s.view(r))
		if r.broken != nil {
			result.Warnings = append(result.Warnings, fmt.Sprintf("volume %s: its document is damaged: %v", name, r.broken))
		}
	}
	return result, nil
}

func matches(f filter.Args, m metadata) bool {
	return f.Match("driver", driverName) && f.MatchLabels("label", m.Labels) &&
		f.MatchAny("name", func(want string) bool { return matchesName(want, m.Name) })
}

// matchesName takes a filter's value as a regular expression, as Docker does, or as part of the name.
func matchesName(want, name string) bool {
	if strings.Contains(name, want) {
		return true
	}
	re, err := regexp.Compile(want)
	return err == nil && re.MatchString(name)
}

// Prune removes the volumes that no container uses: anonymous ones, or all with the filter all=true. Other filters: label,
// label!.
func (s *Service) Prune(ctx context.Context, f filter.Args) (volume.PruneReport, error) {
	if err := f.Allowed("label", "label!", "all"); err != nil {
		return volume.PruneReport{}, err
	}
	all, err := f.Bool("all", false)
	if err != nil {
		return volume.PruneReport{}, err
	}
	report := volume.PruneReport{VolumesDeleted: []string{}}
	for _, name := range s.prunable(f, all) {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		size := dirSize(s.dataPath(name))
		switch err := s.remove(name); {
		case err == nil:
			report.VolumesDeleted = append(report.VolumesDeleted, name)
			report.SpaceReclaimed += uint64(size)
		case errdefs.IsConflict(err), errdefs.IsNotFound(err): // someone was faster
		default:
			return report, err
		}
	}
	s.publishPrune(report.SpaceReclaimed)
	return report, nil
}

func (s *Service) prunable(f filter.Args, all bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, r := range s.volumes {
		_, anonymous := r.meta.Labels[anonymousLabel]
		if len(r.refs) == 0 && (all || anonymous) && f.MatchPrune(r.meta.Labels) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (s *Service) publishPrune(reclaimed uint64) {
	if s.events == nil {
		return
	}
	now := time.Now()
	s.events.Publish(events.Message{
		Type: events.VolumeEventType, Action: events.ActionPrune, Scope: "local", Time: now.Unix(), TimeNano: now.UnixNano(),
		Actor: events.Actor{Attributes: map[string]string{"reclaimed": fmt.Sprint(reclaimed)}},
	})
}

// Usage shows all volumes with their size (-1 for one that is mounted from elsewhere) and the number of
// containers that use them.
func (s *Service) Usage(ctx context.Context) ([]volume.Volume, error) {
	list, err := s.List(ctx, nil)
	if err != nil {
		return nil, err
	}
	for i := range list.Volumes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		v := &list.Volumes[i]
		v.UsageData = &volume.UsageData{Size: -1, RefCount: int64(s.refCount(v.Name))}
		if len(v.Options) == 0 {
			v.UsageData.Size = dirSize(v.Mountpoint)
		}
	}
	return list.Volumes, nil
}

func (s *Service) refCount(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.volumes[name]; ok {
		return len(r.refs)
	}
	return 0
}

// dirSize is the disk space below path, in bytes; a file with several names counts once. What cannot be read counts
// nothing.
func dirSize(path string) int64 {
	var size int64
	seen := map[uint64]struct{}{}
	_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || d.IsDir() {
			return nil
		}
		if st.Nlink > 1 {
			if _, ok := seen[st.Ino]; ok {
				return nil
			}
			seen[st.Ino] = struct{}{}
		}
		size += st.Size
		return nil
	})
	return size
}
