package fakeapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/digitalocean/godo"
)

type dropletIn struct {
	Name              string            `json:"name"`
	Region            string            `json:"region"`
	Size              string            `json:"size"`
	Image             json.RawMessage   `json:"image"`
	SSHKeys           []json.RawMessage `json:"ssh_keys"`
	Backups           bool              `json:"backups"`
	IPv6              bool              `json:"ipv6"`
	PrivateNetworking bool              `json:"private_networking"`
	Monitoring        bool              `json:"monitoring"`
	UserData          string            `json:"user_data"`
	Volumes           []struct {
		ID string `json:"id"`
	} `json:"volumes"`
	Tags         []string `json:"tags"`
	VPC          string   `json:"vpc_uuid"`
	BackupPolicy *struct {
		Plan    string `json:"plan"`
		Weekday string `json:"weekday"`
		Hour    *int   `json:"hour"`
	} `json:"backup_policy"`
}

var hostname = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.-]{0,253}$`)

func createDroplet(c *call) answer {
	var in dropletIn
	if err := c.read(&in); err != nil {
		return invalid("%v", err)
	}
	d, err := c.newDroplet(&in)
	if err != nil {
		return c.problem("%v", err)
	}
	if len(c.droplets) >= max(c.DropletLimit, 25) {
		return invalid("creating this/these droplet(s) will exceed your droplet limit")
	}
	c.droplets[d.ID] = d
	d.from = time.Now().Add(c.fault.Late)
	for _, v := range in.Volumes {
		c.volumes[v.ID].DropletIDs = []int{d.ID}
	}
	for _, t := range in.Tags {
		c.tags[t] = true
	}
	if c.Looks == 0 {
		c.boot(d)
	}
	return answer{http.StatusAccepted, map[string]any{"droplet": d.Droplet, "links": map[string]any{}}}
}

// newDroplet checks all that a droplet refers to.
func (c *call) newDroplet(in *dropletIn) (*droplet, error) {
	var ref any
	if err := json.Unmarshal(in.Image, &ref); err != nil {
		return nil, err
	}
	im := c.image(fmt.Sprint(ref))
	if _, text := ref.(string); im == nil || text == (im.Slug == "") {
		return nil, fmt.Errorf("the image %s", in.Image)
	}
	region := find(regions(), func(r godo.Region) bool { return r.Slug == in.Region })
	size := find(sizes(), func(s godo.Size) bool { return s.Slug == in.Size })
	switch {
	case !hostname.MatchString(in.Name):
		return nil, fmt.Errorf("the name %q", in.Name)
	case region == nil || size == nil || !slices.Contains(size.Regions, in.Region):
		return nil, fmt.Errorf("the size %q in the region %q", in.Size, in.Region)
	case len(in.UserData) > 64<<10:
		return nil, fmt.Errorf("%d bytes of user-data", len(in.UserData))
	case in.BackupPolicy != nil && !in.Backups:
		return nil, fmt.Errorf("a backup policy without backups")
	case len(in.SSHKeys) == 0:
		return nil, fmt.Errorf("no SSH key")
	case in.VPC != "" && find(vpcs(), func(v *godo.VPC) bool { return v.ID == in.VPC && v.RegionSlug == in.Region }) == nil:
		return nil, fmt.Errorf("the VPC %q", in.VPC)
	}
	d := &droplet{userdata: in.UserData, looks: c.Looks, Droplet: godo.Droplet{
		ID: c.id(), Name: in.Name, Region: region, Image: im, Size: size, SizeSlug: in.Size, Status: "new", Locked: true,
		Tags: in.Tags, VPCUUID: in.VPC, Created: time.Now().UTC().Format(time.RFC3339), Networks: &godo.Networks{},
	}}
	for _, raw := range in.SSHKeys {
		var ref any
		_ = json.Unmarshal(raw, &ref)
		k := c.key(fmt.Sprint(ref))
		if k == nil {
			return nil, fmt.Errorf("the SSH key %s", raw)
		}
		d.keys = append(d.keys, k.PublicKey)
	}
	for _, v := range in.Volumes {
		if c.volumes[v.ID] == nil || len(c.volumes[v.ID].DropletIDs) > 0 {
			return nil, fmt.Errorf("the volume %q", v.ID)
		}
		d.VolumeIDs = append(d.VolumeIDs, v.ID)
	}
	for _, t := range in.Tags {
		if !tagPattern.MatchString(t) {
			return nil, fmt.Errorf("the tag %q", t)
		}
	}
	if in.IPv6 {
		d.Networks.V6 = []godo.NetworkV6{{IPAddress: "2001:db8::1", Netmask: 64, Gateway: "2001:db8::", Type: "public"}}
	}
	return d, nil
}

func find[T any](l []T, is func(T) bool) *T {
	for i, v := range l {
		if is(v) {
			return &l[i]
		}
	}
	return nil
}

// boot makes a droplet active. The first boot gives it its addresses, the private one first, as the API lists them.
func (s *Server) boot(d *droplet) {
	public, private := fmt.Sprintf("198.51.100.%d", d.ID%250+1), fmt.Sprintf("10.108.0.%d", d.ID%250+1)
	if s.Boot != nil {
		var err error
		if public, private, err = s.Boot(d.Droplet, d.userdata, d.keys); err != nil {
			s.problems = append(s.problems, "booting: "+err.Error())
		}
	}
	d.Networks.V4 = []godo.NetworkV4{
		{IPAddress: private, Netmask: "255.255.240.0", Gateway: "10.108.0.1", Type: "private"},
		{IPAddress: public, Netmask: "255.255.240.0", Gateway: "198.51.100.1", Type: "public"},
	}
	d.Status, d.Locked = "active", false
}

func (s *Server) halt(d *droplet, gone bool) {
	if s.Halt != nil && (d.Status == "active" || gone) {
		s.Halt(d.Droplet, gone)
	}
	d.Status = "off"
}

// bury ends a droplet for good.
func (s *Server) bury(id int) {
	d := s.droplets[id]
	if d == nil {
		return
	}
	s.halt(d, true)
	delete(s.droplets, id)
	for _, v := range s.volumes {
		v.DropletIDs = slices.DeleteFunc(v.DropletIDs, func(n int) bool { return n == id })
	}
	for _, r := range s.reserved {
		if r.Droplet != nil && r.Droplet.ID == id {
			r.Droplet = nil
		}
	}
}

// see lets time pass for a droplet that is looked at; it reports whether it is there.
func (c *call) see(d *droplet) bool {
	if time.Now().Before(d.from) {
		return false
	}
	switch {
	case d.dying && d.looks <= 0:
		c.bury(d.ID)
		return false
	case d.Status == "new" && d.looks <= 0:
		c.boot(d)
	}
	d.looks--
	return true
}

func listDroplets(c *call) answer {
	q := c.r.URL.Query()
	l := []godo.Droplet{}
	ids := []int{}
	for id := range c.droplets {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		d := c.droplets[id]
		if tag := q.Get("tag_name"); tag != "" && !slices.Contains(d.Tags, tag) {
			continue
		}
		if name := q.Get("name"); name != "" && d.Name != name {
			continue
		}
		if c.see(d) {
			l = append(l, d.Droplet)
		}
	}
	return page(c, "droplets", l)
}

func (c *call) droplet() *droplet {
	id, _ := strconv.Atoi(c.args[0])
	return c.droplets[id]
}

func getDroplet(c *call) answer {
	d := c.droplet()
	if d == nil || !c.see(d) {
		return notFound()
	}
	return ok(map[string]any{"droplet": d.Droplet})
}

func deleteDroplet(c *call) answer {
	d := c.droplet()
	if d == nil {
		return notFound()
	}
	if d.dying = true; c.Looks == 0 {
		c.bury(d.ID)
	} else {
		d.looks = c.Looks
	}
	return none()
}

func act(c *call) answer {
	d := c.droplet()
	if d == nil {
		return notFound()
	}
	var in struct {
		Type string `json:"type"`
		Size string `json:"size"`
		Disk bool   `json:"disk"`
		Name string `json:"name"`
	}
	if err := c.read(&in); err != nil {
		return invalid("%v", err)
	}
	status := "completed"
	switch in.Type {
	case "power_on":
		c.boot(d)
	case "power_off":
		c.halt(d, false)
	case "shutdown":
		if !c.StubbornShutdown {
			c.halt(d, false)
		}
	case "reboot":
		if d.Status != "active" {
			return c.problem("Droplet is not active")
		}
		c.halt(d, false)
		c.boot(d)
		status = "in-progress"
	case "resize":
		size := find(sizes(), func(s godo.Size) bool { return s.Slug == in.Size })
		if size == nil || d.Status != "off" {
			return c.problem("a droplet that is %s to the size %q", d.Status, in.Size)
		}
		d.SizeSlug, d.Size, status = in.Size, size, "in-progress"
	case "snapshot":
		c.images = append(c.images, godo.Image{ID: c.id(), Name: in.Name, Type: "snapshot", Distribution: "Debian", Description: "of " + c.args[0],
			Regions: []string{d.Region.Slug}, MinDiskSize: 25, Status: "available"})
		status = "in-progress"
	case "rename":
		d.Name, status = in.Name, "in-progress"
	default:
		return c.problem("the action %q", in.Type)
	}
	return created(map[string]any{"action": c.action(in.Type, status, d.ID)})
}
