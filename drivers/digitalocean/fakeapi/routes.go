package fakeapi

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/digitalocean/godo"
)

func (s *Server) routes() []route {
	return []route{
		{"GET account", func(c *call) answer {
			return ok(map[string]any{"account": godo.Account{DropletLimit: cmp.Or(c.DropletLimit, 25), Status: "active", Email: "a@example.com", UUID: "u"}})
		}},
		{"GET regions", func(c *call) answer { return page(c, "regions", regions()) }},
		{"GET sizes", func(c *call) answer { return page(c, "sizes", sizes()) }},
		{"GET images", listImages},
		{"GET images *", getImage},
		{"GET vpcs", func(c *call) answer { return page(c, "vpcs", vpcs()) }},
		{"GET projects", func(c *call) answer { return page(c, "projects", projects()) }},
		{"POST projects * resources", assignProject},
		{"GET account keys", func(c *call) answer { return page(c, "ssh_keys", sorted(c.keys)) }},
		{"POST account keys", createKey},
		{"GET account keys *", getKey},
		{"DELETE account keys *", deleteKey},
		{"POST tags", createTag},
		{"GET tags *", func(c *call) answer {
			if !c.tags[c.args[0]] {
				return notFound()
			}
			return ok(map[string]any{"tag": godo.Tag{Name: c.args[0]}})
		}},
		{"DELETE tags *", deleteTag},
		{"GET firewalls", func(c *call) answer { return page(c, "firewalls", sorted(c.firewalls)) }},
		{"POST firewalls", createFirewall},
		{"GET firewalls *", getFirewall},
		{"PUT firewalls *", updateFirewall},
		{"DELETE firewalls *", func(c *call) answer { return remove(c.firewalls, c.args[0]) }},
		{"GET volumes", listVolumes},
		{"POST volumes", createVolume},
		{"GET volumes *", func(c *call) answer {
			if v := c.volumes[c.args[0]]; v != nil {
				return ok(map[string]any{"volume": v})
			}
			return notFound()
		}},
		{"DELETE volumes *", deleteVolume},
		{"GET reserved_ips", func(c *call) answer { return page(c, "reserved_ips", sorted(c.reserved)) }},
		{"POST reserved_ips", createReserved},
		{"GET reserved_ips *", func(c *call) answer {
			if ip := c.reserved[c.args[0]]; ip != nil {
				return ok(map[string]any{"reserved_ip": ip})
			}
			return notFound()
		}},
		{"DELETE reserved_ips *", func(c *call) answer {
			if ip := c.reserved[c.args[0]]; ip != nil && ip.Droplet != nil {
				return invalid("The reserved IP is assigned to a droplet")
			}
			return remove(c.reserved, c.args[0])
		}},
		{"POST reserved_ips * actions", assignReserved},
		{"GET droplets", listDroplets},
		{"POST droplets", createDroplet},
		{"GET droplets *", getDroplet},
		{"DELETE droplets *", deleteDroplet},
		{"POST droplets * actions", act},
		{"GET droplets * actions *", func(c *call) answer {
			id, _ := strconv.Atoi(c.args[1])
			if a := c.actions[id]; a != nil {
				a.Status = "completed"
				return ok(map[string]any{"action": a})
			}
			return notFound()
		}},
		{"GET droplets * snapshots", func(c *call) answer { return page(c, "snapshots", c.snapshots(c.args[0])) }},
	}
}

func sorted[K cmp.Ordered, V any](m map[K]*V) []V {
	l := []V{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		l = append(l, *m[k])
	}
	return l
}

func remove[V any](m map[string]*V, key string) answer {
	if m[key] == nil {
		return notFound()
	}
	delete(m, key)
	return none()
}

func listImages(c *call) answer {
	q := c.r.URL.Query()
	var l []godo.Image
	for _, im := range c.images {
		if (q.Get("type") == "distribution") == im.Public && (q.Get("private") == "true") != im.Public {
			l = append(l, im)
		}
	}
	return page(c, "images", l)
}

func (s *Server) image(name string) *godo.Image {
	for i, im := range s.images {
		if name != "" && im.Slug == name || strconv.Itoa(im.ID) == name {
			return &s.images[i]
		}
	}
	return nil
}

func getImage(c *call) answer {
	if im := c.image(c.args[0]); im != nil {
		return ok(map[string]any{"image": im})
	}
	return notFound()
}

func assignProject(c *call) answer {
	var in struct {
		Resources []string `json:"resources"`
	}
	if err := c.read(&in); err != nil {
		return invalid("%v", err)
	}
	if !slices.ContainsFunc(projects(), func(p godo.Project) bool { return p.ID == c.args[0] }) {
		return notFound()
	}
	for _, urn := range in.Resources {
		id, found := strings.CutPrefix(urn, "do:droplet:")
		if n, _ := strconv.Atoi(id); !found || c.droplets[n] == nil {
			return c.problem("there is no %s for a project", urn)
		}
		if !slices.Contains(c.projects[c.args[0]], urn) {
			c.projects[c.args[0]] = append(c.projects[c.args[0]], urn)
		}
	}
	return ok(map[string]any{"resources": []any{}})
}

func (s *Server) key(ref string) *godo.Key {
	for _, k := range s.keys {
		if k.Fingerprint == ref || strconv.Itoa(k.ID) == ref {
			return k
		}
	}
	return nil
}

func createKey(c *call) answer {
	var in struct {
		Name      string `json:"name"`
		PublicKey string `json:"public_key"`
	}
	if err := c.read(&in); err != nil {
		return invalid("%v", err)
	}
	fp, err := fingerprint(in.PublicKey)
	if err != nil || in.Name == "" {
		return c.problem("Key invalid, key should be of the format `type key [comment]`")
	}
	if c.key(fp) != nil {
		return c.problem("SSH Key is already in use on your account")
	}
	k := &godo.Key{ID: c.id(), Name: in.Name, PublicKey: in.PublicKey, Fingerprint: fp}
	c.keys[k.ID] = k
	return created(map[string]any{"ssh_key": k})
}

func getKey(c *call) answer {
	if k := c.key(c.args[0]); k != nil {
		return ok(map[string]any{"ssh_key": k})
	}
	return notFound()
}

func deleteKey(c *call) answer {
	k := c.key(c.args[0])
	if k == nil {
		return notFound()
	}
	delete(c.keys, k.ID)
	return none()
}

var tagPattern = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,255}$`)

func createTag(c *call) answer {
	var in struct {
		Name string `json:"name"`
	}
	if err := c.read(&in); err != nil || !tagPattern.MatchString(in.Name) {
		return c.problem("the tag %q", in.Name)
	}
	c.tags[in.Name] = true
	return created(map[string]any{"tag": godo.Tag{Name: in.Name}})
}

func deleteTag(c *call) answer {
	if !c.tags[c.args[0]] {
		return notFound()
	}
	delete(c.tags, c.args[0])
	for _, d := range c.droplets {
		d.Tags = slices.DeleteFunc(d.Tags, func(t string) bool { return t == c.args[0] })
	}
	return none()
}

func listVolumes(c *call) answer {
	q := c.r.URL.Query()
	var l []godo.Volume
	for _, v := range sorted(c.volumes) {
		if (q.Get("region") == "" || v.Region.Slug == q.Get("region")) && (q.Get("name") == "" || v.Name == q.Get("name")) {
			l = append(l, v)
		}
	}
	return page(c, "volumes", l)
}

var volumeName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}[a-z0-9]$`)

func createVolume(c *call) answer {
	var in struct {
		Region      string   `json:"region"`
		Name        string   `json:"name"`
		Description string   `json:"description"`
		Size        int64    `json:"size_gigabytes"`
		Snapshot    string   `json:"snapshot_id"`
		Filesystem  string   `json:"filesystem_type"`
		Label       string   `json:"filesystem_label"`
		Tags        []string `json:"tags"`
	}
	if err := c.read(&in); err != nil {
		return invalid("%v", err)
	}
	if !volumeName.MatchString(in.Name) || in.Size < 1 || in.Region == "" {
		return c.problem("the volume %q of %d GB", in.Name, in.Size)
	}
	for _, v := range c.volumes {
		if v.Name == in.Name && v.Region.Slug == in.Region {
			return answer{http.StatusConflict, failure("a volume of that name exists")}
		}
	}
	v := &godo.Volume{ID: c.uuid(), Name: in.Name, SizeGigaBytes: in.Size, Region: &godo.Region{Slug: in.Region}, Tags: in.Tags}
	for _, t := range in.Tags {
		c.tags[t] = true
	}
	c.volumes[v.ID] = v
	return created(map[string]any{"volume": v})
}

func deleteVolume(c *call) answer {
	v := c.volumes[c.args[0]]
	if v == nil {
		return notFound()
	}
	if len(v.DropletIDs) > 0 {
		return answer{http.StatusConflict, failure("the volume is attached to a droplet")}
	}
	delete(c.volumes, v.ID)
	return none()
}

func createReserved(c *call) answer {
	var in struct {
		Droplet int    `json:"droplet_id"`
		Region  string `json:"region"`
		Project string `json:"project_id"`
	}
	if err := c.read(&in); err != nil {
		return invalid("%v", err)
	}
	d := c.droplets[in.Droplet]
	if d == nil || in.Region != "" {
		return c.problem("a reserved IP for droplet %d in %q", in.Droplet, in.Region)
	}
	ip := &godo.ReservedIP{IP: fmt.Sprintf("203.0.113.%d", c.id()%250), Region: d.Region, Droplet: &d.Droplet}
	if c.Reserve != nil {
		ip.IP = c.Reserve(d.Droplet)
	}
	c.reserved[ip.IP] = ip
	return answer{http.StatusAccepted, map[string]any{"reserved_ip": ip}}
}

func assignReserved(c *call) answer {
	var in struct {
		Type    string `json:"type"`
		Droplet int    `json:"droplet_id"`
	}
	if err := c.read(&in); err != nil {
		return invalid("%v", err)
	}
	ip, d := c.reserved[c.args[0]], c.droplets[in.Droplet]
	if ip != nil && in.Type == "unassign" {
		ip.Droplet = nil
		return created(map[string]any{"action": c.action("unassign_ip", "completed", 0)})
	}
	if ip == nil || d == nil || in.Type != "assign" {
		return c.problem("%s of %s to %d", in.Type, c.args[0], in.Droplet)
	}
	ip.Droplet = &d.Droplet
	return created(map[string]any{"action": c.action("assign_ip", "completed", d.ID)})
}

func (s *Server) action(kind, status string, resource int) *godo.Action {
	a := &godo.Action{ID: s.id(), Type: kind, Status: status, ResourceID: resource, ResourceType: "droplet", StartedAt: &godo.Timestamp{Time: time.Now()}}
	s.actions[a.ID] = a
	return a
}

// snapshots are the images that were made of a droplet.
func (s *Server) snapshots(droplet string) (l []godo.Image) {
	for _, im := range s.images {
		if im.Type == "snapshot" && im.Description == "of "+droplet {
			l = append(l, im)
		}
	}
	return l
}
