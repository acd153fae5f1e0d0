package dosim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

var actionRoutes = []route{
	{"GET", "/v2/actions", "actions:read", 200, (*Server).listActions},
	{"GET", "/v2/actions/{action}", "actions:read", 200, (*Server).getAction},
	{"GET", "/v2/droplets/{id}/actions", "droplet:read", 200, (*Server).listDropletActions},
	{"POST", "/v2/droplets/{id}/actions", "droplet:update", 201, (*Server).createAction},
	{"GET", "/v2/droplets/{id}/actions/{action}", "droplet:read", 200, (*Server).getAction},
	{"POST", "/v2/droplets/actions", "droplet:update", 201, (*Server).createActionsByTag},
}

// action is something that takes time.
type action struct {
	ID           int
	Status       string // in-progress, completed or errored
	Type         string
	Started      string
	Completed    string // "" while in progress
	ResourceID   int
	ResourceType string
	Region       string
}

func (s *Server) newAction(kind, resource string, id int, region string) *action {
	a := &action{ID: s.id(), Status: "in-progress", Type: kind, Started: stamp(time.Now()), ResourceID: id, ResourceType: resource, Region: region}
	s.actions = append(s.actions, a)
	return a
}

func (a *action) end(err error) {
	a.Completed, a.Status = stamp(time.Now()), "completed"
	if err != nil {
		a.Status = "errored"
	}
}

func (a *action) wire() object {
	var completed any
	if a.Completed != "" {
		completed = a.Completed
	}
	return object{"id": a.ID, "status": a.Status, "type": a.Type, "started_at": a.Started, "completed_at": completed,
		"resource_id": a.ResourceID, "resource_type": a.ResourceType, "region": regionWire(a.Region), "region_slug": a.Region}
}

func (s *Server) listActions(r *request) (any, error) {
	list := slices.Clone(s.actions)
	slices.Reverse(list) // the newest first
	return page(s, r, "actions", wires(list, (*action).wire))
}

func (s *Server) listDropletActions(r *request) (any, error) {
	d, err := s.droplet(r)
	if err != nil {
		return nil, err
	}
	list := filter(s.actions, func(a *action) bool { return a.ResourceType == "droplet" && a.ResourceID == d.ID })
	slices.Reverse(list)
	return page(s, r, "actions", wires(list, (*action).wire))
}

func (s *Server) getAction(r *request) (any, error) {
	a, err := find(s.actions, func(a *action) bool { return strconv.Itoa(a.ID) == r.PathValue("action") })
	if err != nil {
		return nil, err
	}
	if id := r.PathValue("id"); id != "" && id != strconv.Itoa(a.ResourceID) {
		return nil, notFound()
	}
	return object{"action": a.wire()}, nil
}

// actionRequest is the body of a request for an action: each type uses some of it.
type actionRequest struct {
	Type         string          `json:"type"`
	Name         string          `json:"name"`
	Size         string          `json:"size"`
	Disk         bool            `json:"disk"`
	Image        json.RawMessage `json:"image"`
	BackupPolicy *backupPolicy   `json:"backup_policy"`
}

func (s *Server) createAction(r *request) (any, error) {
	d, err := s.droplet(r)
	if err != nil {
		return nil, err
	}
	var in actionRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	extra := map[string]string{"resize": "droplet:create", "snapshot": "image:create"}
	if err := s.needs(r, extra[in.Type]); err != nil {
		return nil, err
	}
	a, err := s.startAction(d, in)
	if err != nil {
		return nil, err
	}
	return object{"action": a.wire()}, nil
}

func (s *Server) createActionsByTag(r *request) (any, error) {
	var in actionRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	name := r.URL.Query().Get("tag_name")
	if _, err := s.tag(name); err != nil {
		return nil, err
	}
	made := []object{}
	for _, d := range s.sorted() {
		if hasTag(d.Tags, name) {
			a, err := s.startAction(d, in)
			if err != nil {
				return nil, err
			}
			made = append(made, a.wire())
		}
	}
	return object{"actions": made}, nil
}

// startAction checks an action at once and does it in the background, with the droplet locked meanwhile.
func (s *Server) startAction(d *droplet, in actionRequest) (*action, error) {
	if d.Locked {
		return nil, invalid("Droplet already has a pending event.")
	}
	do, err := s.plan(d, in)
	if err != nil {
		return nil, err
	}
	a := s.newAction(in.Type, "droplet", d.ID, d.Region)
	d.Locked = true
	s.background(func() {
		if !sleep(s.ctx, s.opt.ActionAfter) {
			return
		}
		err := do()
		if err != nil {
			s.logf("droplet %d: %s: %v", d.ID, in.Type, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		d.Locked = false
		a.end(err)
	})
	return a, nil
}

// plan returns what an action will do, without mu; or why it cannot.
func (s *Server) plan(d *droplet, in actionRequest) (func() error, error) {
	change := func(f func()) func() error {
		return func() error {
			s.mu.Lock()
			defer s.mu.Unlock()
			f()
			return nil
		}
	}
	switch in.Type {
	case "power_on":
		if d.Status == "active" {
			return nil, invalid("Droplet is already powered on.")
		}
		return func() error { return s.power(d, in.Type) }, nil
	case "shutdown", "power_off", "reboot", "power_cycle":
		if d.Status != "active" && in.Type != "power_cycle" {
			return nil, invalid("Droplet is currently powered off. Please power it on to run this event.")
		}
		if d.Status == "off" {
			return func() error { return s.power(d, "power_on") }, nil
		}
		return func() error { return s.power(d, in.Type) }, nil
	case "rename":
		if !hostname.MatchString(in.Name) {
			return nil, invalid("Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)")
		}
		return change(func() { d.Name = in.Name }), nil
	case "resize":
		return s.planResize(d, in)
	case "snapshot":
		name := in.Name
		if name == "" {
			name = fmt.Sprintf("%s-%d", d.Name, time.Now().UnixMilli())
		}
		return s.planSnapshot(d, name)
	case "enable_backups", "change_backup_policy":
		return s.planBackups(d, in, change)
	case "disable_backups":
		if d.Policy == nil {
			return nil, invalid("Backups are not enabled on this Droplet.")
		}
		return change(func() { d.Policy = nil }), nil
	}
	return nil, invalid("The action type %q is not one that this simulator has.", in.Type)
}

func (s *Server) planResize(d *droplet, in actionRequest) (func() error, error) {
	z, ok := sizeBySlug(in.Size)
	switch {
	case !ok || !z.soldIn(d.Region):
		return nil, invalid("You specified an invalid size for this Droplet.")
	case z.Slug == d.Size.Slug:
		return nil, invalid("Droplet is already this size.")
	case z.Disk < d.Size.Disk:
		return nil, invalid("This size is not available because it has a smaller disk.")
	case d.Status != "off":
		return nil, invalid("Droplet must be powered off to be resized.")
	}
	return func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		disk := d.Size.Disk
		d.Size = z
		if !in.Disk {
			d.Size.Disk = disk
		}
		return nil
	}, nil
}

func (s *Server) planSnapshot(d *droplet, name string) (func() error, error) {
	im := &image{ID: s.id(), Name: name, Distribution: d.Image.Distribution, Type: "snapshot", MinDisk: d.Size.Disk,
		Size: 1.5, Regions: []string{d.Region}, Created: stamp(time.Now()), Of: d.ID}
	return func() error {
		if s.storage != nil {
			if err := s.storage.Snapshot(s.ctx, d.ID, im.ID); err != nil {
				return err
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.images = append(s.images, im)
		return nil
	}, nil
}

func (s *Server) planBackups(d *droplet, in actionRequest, change func(func()) func() error) (func() error, error) {
	p := in.BackupPolicy
	if p == nil {
		p = &backupPolicy{Plan: "daily"}
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if in.Type == "enable_backups" && d.Policy != nil {
		return nil, invalid("Backups are already enabled on this Droplet.")
	}
	if in.Type == "change_backup_policy" && (d.Policy == nil || in.BackupPolicy == nil) {
		return nil, invalid("Backups are not enabled on this Droplet, or backup_policy is missing.")
	}
	return change(func() { d.Policy = p }), nil
}

// ref reads an id or a slug out of JSON, which has either a number or a string.
func ref(raw json.RawMessage) string { return strings.Trim(string(raw), `"`) }
