package dosim

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
)

var volumeRoutes = []route{
	{"GET", "/v2/volumes", "block_storage:read", 200, (*Server).listVolumes},
	{"POST", "/v2/volumes", "block_storage:create", 201, (*Server).createVolume},
	{"GET", "/v2/volumes/{volume}", "block_storage:read", 200, (*Server).getVolume},
	{"DELETE", "/v2/volumes/{volume}", "block_storage:delete", 204, (*Server).deleteVolume},
	{"GET", "/v2/volumes/{volume}/actions", "block_storage_action:read", 200, (*Server).listVolumeActions},
	{"POST", "/v2/volumes/{volume}/actions", "block_storage_action:create", 202, (*Server).createVolumeAction},
	{"GET", "/v2/volumes/{volume}/actions/{action}", "block_storage_action:read", 200, (*Server).getVolumeAction},
	{"GET", "/v2/volumes/{volume}/snapshots", "block_storage_snapshot:read", 200, (*Server).listVolumeSnapshots},
	{"POST", "/v2/volumes/{volume}/snapshots", "block_storage_snapshot:create", 201, (*Server).createVolumeSnapshot},
}

// volume is a disk that can be attached to one droplet of its region.
type volume struct {
	ID, Name, Description, Region, Created string
	Size                                   int // GiB
	Filesystem, Label                      string
	DropletIDs                             []int
	Tags                                   []string
	actions                                []*action
}

var volumeName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,62}[a-z0-9])?$`)

func (v *volume) wire() object {
	return object{"id": v.ID, "name": v.Name, "description": v.Description, "region": regionWire(v.Region), "created_at": v.Created,
		"size_gigabytes": v.Size, "filesystem_type": v.Filesystem, "filesystem_label": v.Label, "droplet_ids": orEmpty(v.DropletIDs), "tags": orEmpty(v.Tags)}
}

// spec is what Storage is told of a volume.
func (v *volume) spec() Volume { return Volume{v.ID, v.Name, v.Size, v.Filesystem, v.Label} }

func (s *Server) volume(id string) (*volume, error) {
	return find(s.volumes, func(v *volume) bool { return v.ID == id })
}

func (s *Server) volumesOf(droplet int) []string {
	ids := []string{}
	for _, v := range s.volumes {
		if slices.Contains(v.DropletIDs, droplet) {
			ids = append(ids, v.ID)
		}
	}
	return ids
}

func (s *Server) listVolumes(r *request) (any, error) {
	q := r.URL.Query()
	list := filter(s.volumes, func(v *volume) bool {
		return (q.Get("name") == "" || v.Name == q.Get("name")) && (q.Get("region") == "" || v.Region == q.Get("region"))
	})
	return page(s, r, "volumes", wires(list, (*volume).wire))
}

func (s *Server) getVolume(r *request) (any, error) {
	v, err := s.volume(r.PathValue("volume"))
	if err != nil {
		return nil, err
	}
	return object{"volume": v.wire()}, nil
}

func (s *Server) createVolume(r *request) (any, error) {
	var in struct {
		Name        string   `json:"name"`
		Description string   `json:"description"`
		Region      string   `json:"region"`
		Size        int      `json:"size_gigabytes"`
		Filesystem  string   `json:"filesystem_type"`
		Label       string   `json:"filesystem_label"`
		SnapshotID  string   `json:"snapshot_id"`
		Tags        []string `json:"tags"`
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	v := &volume{ID: uuid.NewString(), Name: in.Name, Description: in.Description, Region: in.Region, Created: stamp(time.Now()), Size: in.Size,
		Filesystem: in.Filesystem, Label: in.Label, Tags: in.Tags}
	if in.SnapshotID != "" {
		o, err := find(s.snapshots, func(o *volumeSnapshot) bool { return o.ID == in.SnapshotID })
		if err != nil {
			return nil, invalid("snapshot not found")
		}
		v.Region, v.Size = o.Region, max(v.Size, o.Size)
	}
	g, ok := regionBySlug(v.Region)
	switch {
	case !ok || !g.available:
		return nil, invalid("invalid region")
	case !volumeName.MatchString(v.Name):
		return nil, invalid("invalid name: must be lowercase and be composed only of numbers, letters and \"-\", up to a limit of 64 characters, and begin with a letter")
	case v.Size < 1 || v.Size > 16384:
		return nil, invalid("size_gigabytes must be between 1 and 16384")
	case !slices.Contains([]string{"", "ext4", "xfs"}, v.Filesystem):
		return nil, invalid("filesystem_type must be ext4 or xfs")
	case slices.ContainsFunc(s.volumes, func(o *volume) bool { return o.Name == v.Name && o.Region == v.Region }):
		return nil, &apiError{409, "conflict", "a volume with that name already exists in the region"}
	}
	s.volumes = append(s.volumes, v)
	for _, t := range v.Tags {
		s.ensureTag(t, "/v2/volumes/"+v.ID)
	}
	s.projects[0].assign("do:volume:" + v.ID)
	return object{"volume": v.wire()}, nil
}

func (s *Server) deleteVolume(r *request) (any, error) {
	v, err := s.volume(r.PathValue("volume"))
	switch {
	case err != nil:
		return nil, err
	case len(v.DropletIDs) > 0:
		return nil, &apiError{409, "conflict", "a volume that is attached to a Droplet cannot be deleted"}
	}
	s.volumes = filter(s.volumes, func(o *volume) bool { return o != v })
	if s.storage != nil {
		if err := s.storage.DropVolume(v.ID); err != nil {
			return nil, err
		}
	}
	for _, p := range s.projects {
		p.Resources = filter(p.Resources, func(m member) bool { return m.URN != "do:volume:"+v.ID })
	}
	return nil, nil
}

// checkVolumes finds the volumes that a new droplet is to have.
func (s *Server) checkVolumes(in *dropletRequest, d *droplet) error {
	for _, raw := range in.Volumes {
		v, err := s.volume(volumeID(raw))
		switch {
		case err != nil:
			return invalid("volume not found")
		case v.Region != d.Region:
			return invalid("volume is not in the region of the Droplet")
		case len(v.DropletIDs) > 0:
			return invalid("volume is already attached to a Droplet")
		}
		d.volumes = append(d.volumes, v)
	}
	return nil
}

// volumeID reads a volume's id out of a request: the id, as described, or an object, as godo sends it.
func volumeID(raw json.RawMessage) string {
	var o struct{ ID string }
	if json.Unmarshal(raw, &o) == nil {
		return o.ID
	}
	return ref(raw)
}

func (s *Server) createVolumeAction(r *request) (any, error) {
	v, err := s.volume(r.PathValue("volume"))
	if err != nil {
		return nil, err
	}
	var in struct {
		Type      string `json:"type"`
		DropletID int    `json:"droplet_id"`
		Size      int    `json:"size_gigabytes"`
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	do, err := s.planVolume(v, in.Type, s.droplets[in.DropletID], in.Size)
	if err != nil {
		return nil, err
	}
	a := s.newAction(in.Type+"_volume", "volume", 0, v.Region)
	if in.Type == "resize" {
		a.Type = "resize"
	}
	v.actions = append(v.actions, a)
	s.background(func() {
		if !sleep(s.ctx, s.opt.ActionAfter) {
			return
		}
		err := do()
		if err != nil {
			s.logf("volume %s: %s: %v", v.Name, in.Type, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		a.end(err)
	})
	return object{"action": a.wire()}, nil
}

// planVolume changes a volume's record and returns what there is to do to a machine.
func (s *Server) planVolume(v *volume, kind string, d *droplet, size int) (func() error, error) {
	switch {
	case kind == "resize" && size > v.Size && size <= 16384:
		v.Size = size
		holder := 0
		if len(v.DropletIDs) > 0 {
			d = s.droplets[v.DropletIDs[0]]
			if d != nil && d.Status == "active" {
				holder = d.ID
			}
		}
		return s.stored(true, func(st Storage) error { return st.Grow(s.ctx, holder, v.spec()) }), nil
	case kind == "resize":
		return nil, invalid("a volume can only be made larger, up to 16384 GiB")
	case kind != "attach" && kind != "detach":
		return nil, invalid("type must be attach, detach or resize")
	case d == nil:
		return nil, invalid("droplet does not exist")
	case kind == "detach" && !slices.Contains(v.DropletIDs, d.ID):
		return nil, invalid("Attachment not found")
	case kind == "detach":
		v.DropletIDs = nil
		return s.stored(d.Status == "active", func(st Storage) error { return st.Detach(s.ctx, d.ID, v.ID) }), nil
	case d.Region != v.Region || len(v.DropletIDs) > 0:
		return nil, invalid("volume is attached already, or in another region")
	}
	v.DropletIDs = []int{d.ID}
	return s.stored(d.Status == "active", func(st Storage) error { return st.Attach(s.ctx, d.ID, v.spec()) }), nil
}

// stored is f, or nothing where there is no storage or no need.
func (s *Server) stored(need bool, f func(Storage) error) func() error {
	return func() error {
		if s.storage == nil || !need {
			return nil
		}
		return f(s.storage)
	}
}

func (s *Server) listVolumeActions(r *request) (any, error) {
	v, err := s.volume(r.PathValue("volume"))
	if err != nil {
		return nil, err
	}
	return page(s, r, "actions", wires(v.actions, (*action).wire))
}

func (s *Server) getVolumeAction(r *request) (any, error) {
	v, err := s.volume(r.PathValue("volume"))
	if err != nil {
		return nil, err
	}
	a, err := find(v.actions, func(a *action) bool { return strconv.Itoa(a.ID) == r.PathValue("action") })
	if err != nil {
		return nil, err
	}
	return object{"action": a.wire()}, nil
}

// volumeSnapshot is the state of a volume at some time.
type volumeSnapshot struct {
	ID, Name, Volume, Region, Created string
	Size                              int
	Tags                              []string
}

func (v *volumeSnapshot) wire() object {
	return object{"id": v.ID, "name": v.Name, "regions": []string{v.Region}, "created_at": v.Created, "resource_id": v.Volume,
		"resource_type": "volume", "min_disk_size": v.Size, "size_gigabytes": v.Size, "tags": orEmpty(v.Tags)}
}

func (s *Server) listVolumeSnapshots(r *request) (any, error) {
	v, err := s.volume(r.PathValue("volume"))
	if err != nil {
		return nil, err
	}
	return page(s, r, "snapshots", wires(filter(s.snapshots, func(o *volumeSnapshot) bool { return o.Volume == v.ID }), (*volumeSnapshot).wire))
}

func (s *Server) createVolumeSnapshot(r *request) (any, error) {
	v, err := s.volume(r.PathValue("volume"))
	if err != nil {
		return nil, err
	}
	var in struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if in.Name == "" {
		return nil, invalid("name is required")
	}
	o := &volumeSnapshot{uuid.NewString(), in.Name, v.ID, v.Region, stamp(time.Now()), v.Size, in.Tags}
	s.snapshots = append(s.snapshots, o)
	return object{"snapshot": o.wire()}, nil
}
