package dosim

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var dropletRoutes = []route{
	{"GET", "/v2/droplets", "droplet:read", 200, (*Server).listDroplets},
	{"POST", "/v2/droplets", "droplet:create", 202, (*Server).createDroplets},
	{"DELETE", "/v2/droplets", "droplet:delete", 204, (*Server).deleteDropletsByTag},
	{"GET", "/v2/droplets/{id}", "droplet:read", 200, (*Server).getDroplet},
	{"DELETE", "/v2/droplets/{id}", "droplet:delete", 204, (*Server).deleteDroplet},
	{"GET", "/v2/droplets/{id}/snapshots", "image:read", 200, (*Server).listDropletSnapshots},
	{"GET", "/v2/droplets/{id}/backups", "image:read", 200, (*Server).listDropletBackups},
	{"GET", "/v2/droplets/{id}/backups/policy", "droplet:read", 200, (*Server).getBackupPolicy},
	{"GET", "/v2/droplets/{id}/kernels", "droplet:read", 200, (*Server).listKernels},
	{"GET", "/v2/droplets/{id}/neighbors", "droplet:read", 200, (*Server).listNeighbors},
	{"GET", "/v2/droplets/{id}/firewalls", "firewall:read", 200, (*Server).listDropletFirewalls},
	{"GET", "/v2/droplets/{id}/destroy_with_associated_resources", "droplet:read", 200, (*Server).listAssociated},
}

// droplet is a machine of the account.
type droplet struct {
	ID         int
	Name       string
	Region     string
	Size       size
	Image      *image
	Status     string // new, active or off
	Locked     bool   // an action is under way
	Created    string
	Tags       []string
	Keys       []string // public keys
	UserData   string
	VPC        *vpc
	Public     netip.Addr // the zero Addr if it has no public network
	PublicV6   netip.Addr
	Private    netip.Addr
	Monitoring bool
	Policy     *backupPolicy // nil: no backups
	Booted     bool          // has Machines been told of it
	volumes    []*volume     // to be attached at first
	gone       bool
}

type backupPolicy struct {
	Plan    string `json:"plan"`
	Weekday string `json:"weekday,omitempty"`
	Hour    int    `json:"hour"`
}

func (p *backupPolicy) check() error {
	days := []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
	switch {
	case p.Plan != "daily" && p.Plan != "weekly":
		return invalid("backup_policy.plan must be daily or weekly")
	case p.Plan == "weekly" && !slices.Contains(days, p.Weekday):
		return invalid("backup_policy.weekday must be one of %s", strings.Join(days, ", "))
	case p.Hour < 0 || p.Hour > 20 || p.Hour%4 != 0:
		return invalid("backup_policy.hour must be 0, 4, 8, 12, 16 or 20")
	}
	return nil
}

func (p *backupPolicy) wire() object {
	w := object{"plan": p.Plan, "hour": p.Hour, "window_length_hours": 4, "retention_period_days": 7}
	if p.Plan == "weekly" {
		w["weekday"], w["retention_period_days"] = p.Weekday, 28
	}
	return w
}

func (s *Server) wireDroplet(d *droplet) object {
	v4, v6 := []object{}, []object{}
	if d.Status != "new" || d.Booted { // as at DigitalOcean, the answer to the request for a droplet names no address yet
		p := d.VPC.Range
		v4 = append(v4, object{"ip_address": d.Private.String(), "netmask": netmask(p), "gateway": p.Addr().Next().String(), "type": "private"})
		if d.Public.IsValid() {
			v4 = append(v4, object{"ip_address": d.Public.String(), "netmask": netmask(s.public), "gateway": s.public.Addr().Next().String(), "type": "public"})
		}
		for _, r := range s.reserved {
			if r.Droplet == d {
				v4 = append(v4, object{"ip_address": r.IP.String(), "netmask": netmask(s.public), "gateway": s.public.Addr().Next().String(), "type": "public"})
			}
		}
		if d.PublicV6.IsValid() {
			v6 = append(v6, object{"ip_address": d.PublicV6.String(), "netmask": 64, "gateway": gatewayV6, "type": "public"})
		}
	}
	var window any
	if d.Policy != nil {
		start := time.Now().UTC().Truncate(24 * time.Hour).Add(time.Duration(24+d.Policy.Hour) * time.Hour)
		window = object{"start": stamp(start), "end": stamp(start.Add(4 * time.Hour))}
	}
	return object{
		"id": d.ID, "name": d.Name, "memory": d.Size.Memory, "vcpus": d.Size.CPUs, "disk": d.Size.Disk,
		"disk_info": d.Size.wire()["disk_info"], "locked": d.Locked, "status": d.Status, "kernel": nil, "created_at": d.Created,
		"features": d.features(), "backup_ids": s.imagesOf(d.ID, "backup"), "next_backup_window": window,
		"snapshot_ids": s.imagesOf(d.ID, "snapshot"), "image": d.Image.wire(), "volume_ids": s.volumesOf(d.ID),
		"size": d.Size.wire(), "size_slug": d.Size.Slug, "networks": object{"v4": v4, "v6": v6}, "region": regionWire(d.Region),
		"tags": orEmpty(d.Tags), "vpc_uuid": d.VPC.ID,
	}
}

func (d *droplet) features() []string {
	f := []string{}
	for _, o := range []struct {
		on   bool
		name string
	}{{d.Policy != nil, "backups"}, {d.PublicV6.IsValid(), "ipv6"}, {d.Monitoring, "monitoring"}, {true, "droplet_agent"}, {true, "private_networking"}} {
		if o.on {
			f = append(f, o.name)
		}
	}
	return f
}

// imagesOf are the ids of the images of a type that were made of a droplet.
func (s *Server) imagesOf(id int, kind string) []int {
	ids := []int{}
	for _, im := range s.images {
		if im.Of == id && im.Type == kind {
			ids = append(ids, im.ID)
		}
	}
	return ids
}

func (s *Server) listDroplets(r *request) (any, error) {
	q := r.URL.Query()
	tag, name := q.Get("tag_name"), q.Get("name")
	if tag != "" && name != "" {
		return nil, invalid("tag_name and name can not be combined")
	}
	list := filter(s.sorted(), func(d *droplet) bool {
		return (tag == "" || hasTag(d.Tags, tag)) && (name == "" || strings.EqualFold(d.Name, name)) && q.Get("type") != "gpus"
	})
	return page(s, r, "droplets", wires(list, s.wireDroplet))
}

func (s *Server) droplet(r *request) (*droplet, error) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if d := s.droplets[id]; err == nil && d != nil {
		return d, nil
	}
	return nil, notFound()
}

func (s *Server) getDroplet(r *request) (any, error) {
	d, err := s.droplet(r)
	if err != nil {
		return nil, err
	}
	return object{"droplet": s.wireDroplet(d)}, nil
}

func (s *Server) deleteDroplet(r *request) (any, error) {
	d, err := s.droplet(r)
	if err != nil {
		return nil, err
	}
	s.remove(d)
	return nil, nil
}

func (s *Server) deleteDropletsByTag(r *request) (any, error) {
	tag := r.URL.Query().Get("tag_name")
	if tag == "" {
		return nil, invalid("tag_name is required")
	}
	if _, err := s.tag(tag); err != nil {
		return nil, err
	}
	for _, d := range s.sorted() {
		if hasTag(d.Tags, tag) {
			s.remove(d)
		}
	}
	return nil, nil
}

// remove forgets a droplet, and what refers to it. Its machine goes in the background; its addresses are free when it has gone.
func (s *Server) remove(d *droplet) {
	d.gone = true
	delete(s.droplets, d.ID)
	for _, v := range s.volumes {
		v.DropletIDs = filter(v.DropletIDs, func(id int) bool { return id != d.ID })
	}
	for _, ip := range s.reserved {
		if ip.Droplet == d {
			ip.Droplet = nil
		}
	}
	for _, f := range s.firewalls {
		f.DropletIDs = filter(f.DropletIDs, func(id int) bool { return id != d.ID })
	}
	for _, p := range s.projects {
		p.Resources = filter(p.Resources, func(m member) bool { return m.URN != dropletURN(d.ID) })
	}
	free := func() { delete(s.inUse, d.Public); delete(d.VPC.inUse, d.Private) }
	if !d.Booted || s.opt.Machines == nil {
		free()
		return
	}
	s.background(func() {
		if err := s.opt.Machines.Remove(d.ID); err != nil {
			s.logf("droplet %d: removing its machine: %v", d.ID, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		free()
	})
}

func dropletURN(id int) string { return "do:droplet:" + strconv.Itoa(id) }

// dropletRequest is the body of a request for droplets.
type dropletRequest struct {
	Name             string            `json:"name"`
	Names            []string          `json:"names"`
	Region           string            `json:"region"`
	Size             string            `json:"size"`
	Image            json.RawMessage   `json:"image"`
	SSHKeys          []json.RawMessage `json:"ssh_keys"`
	Backups          bool              `json:"backups"`
	BackupPolicy     *backupPolicy     `json:"backup_policy"`
	IPv6             bool              `json:"ipv6"`
	Monitoring       bool              `json:"monitoring"`
	Tags             []string          `json:"tags"`
	UserData         string            `json:"user_data"`
	Volumes          []json.RawMessage `json:"volumes"`
	VPC              string            `json:"vpc_uuid"`
	PublicNetworking *bool             `json:"public_networking"`
}

var hostname = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$`)

// Limits of DigitalOcean's description.
const (
	maxNames    = 10
	maxUserData = 64 << 10
)

func (s *Server) createDroplets(r *request) (any, error) {
	var in dropletRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	names := in.Names
	if len(names) == 0 {
		names = []string{in.Name}
	}
	plan, err := s.check(&in, names)
	if err != nil {
		return nil, err
	}
	if len(in.Tags) > 0 {
		if err := s.needs(r, "tag:create"); err != nil {
			return nil, err
		}
	}
	var made, links []object
	for _, name := range names {
		d, a, err := s.newDroplet(*plan, name)
		if err != nil {
			return nil, err
		}
		made = append(made, s.wireDroplet(d))
		links = append(links, object{"id": a.ID, "rel": "create", "href": fmt.Sprintf("%s/v2/actions/%d", s.URL, a.ID)})
	}
	if len(in.Names) > 0 {
		return object{"droplets": made, "links": object{"actions": links}}, nil
	}
	return object{"droplet": made[0], "links": object{"actions": links}}, nil
}

// check returns what the new droplets have in common.
func (s *Server) check(in *dropletRequest, names []string) (*droplet, error) {
	if len(names) > maxNames {
		return nil, invalid("You can only create up to %d Droplets at once.", maxNames)
	}
	for _, n := range names {
		if !hostname.MatchString(n) || len(n) > 255 {
			return nil, invalid("Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)")
		}
	}
	if len(s.droplets)+len(names) > s.opt.DropletLimit {
		return nil, invalid("creating this/these droplet(s) will exceed your droplet limit")
	}
	d := &droplet{Status: "new", Locked: true, Created: stamp(time.Now()), UserData: in.UserData, Monitoring: in.Monitoring}
	for _, step := range []func(*dropletRequest, *droplet) error{s.checkPlace, s.checkImage, s.checkKeys, s.checkExtras, s.checkNetwork} {
		if err := step(in, d); err != nil {
			return nil, err
		}
	}
	if len(in.Volumes) > 0 {
		if len(names) > 1 {
			return nil, invalid("volumes can only be attached to a single Droplet")
		}
		return d, s.checkVolumes(in, d)
	}
	return d, nil
}

func (s *Server) checkPlace(in *dropletRequest, d *droplet) error {
	z, ok := sizeBySlug(in.Size)
	if !ok {
		return invalid("You specified an invalid size for Droplet creation.")
	}
	for _, r := range regions() {
		if r.available && strings.HasPrefix(r.Slug, in.Region) && z.soldIn(r.Slug) && (in.Region == "" || len(in.Region) >= 3) {
			d.Region, d.Size = r.Slug, z
			return nil
		}
	}
	if r, ok := regionBySlug(in.Region); ok && r.available {
		return invalid("Size is not available in this region.")
	}
	return invalid("You specified an invalid region for Droplet creation.")
}

func (s *Server) checkImage(in *dropletRequest, d *droplet) error {
	ref := ref(in.Image)
	im, err := s.image(ref)
	switch {
	case err != nil:
		return invalid("You specified an invalid image for Droplet creation.")
	case !slices.Contains(im.Regions, d.Region):
		return invalid("The image you specified is not available in the selected region, you will need to initiate an image transfer before creating this Droplet")
	case im.MinDisk > d.Size.Disk:
		return invalid("This size is smaller than the minimum disk size of the image")
	}
	d.Image = im
	return nil
}

func (s *Server) checkKeys(in *dropletRequest, d *droplet) error {
	for _, raw := range in.SSHKeys {
		ref := ref(raw)
		k, err := s.key(ref)
		if err != nil {
			return invalid("%s are invalid key identifiers for Droplet creation.", ref)
		}
		d.Keys = append(d.Keys, k.PublicKey)
	}
	return nil
}

func (s *Server) checkExtras(in *dropletRequest, d *droplet) error {
	if len(in.UserData) > maxUserData {
		return invalid("User data must be 64 KiB or less")
	}
	for _, t := range in.Tags {
		if !tagName.MatchString(t) || len(t) > 255 {
			return invalid("Tag name %q is invalid: only letters, numbers, colons, dashes and underscores are allowed", t)
		}
		if !hasTag(d.Tags, t) {
			d.Tags = append(d.Tags, t)
		}
	}
	if in.BackupPolicy != nil && !in.Backups {
		return invalid("backup_policy requires backups to be enabled")
	}
	if in.Backups {
		d.Policy = in.BackupPolicy
		if d.Policy == nil {
			d.Policy = &backupPolicy{Plan: "daily"}
		}
		return d.Policy.check()
	}
	return nil
}

func (s *Server) checkNetwork(in *dropletRequest, d *droplet) error {
	d.VPC = s.defaultVPC(d.Region)
	if in.VPC != "" {
		v, err := s.vpc(in.VPC)
		if err != nil {
			return invalid("You specified an invalid VPC for Droplet creation.")
		}
		if v.Region != d.Region {
			return invalid("The VPC is not in the region of the Droplet.")
		}
		d.VPC = v
	}
	if in.PublicNetworking != nil && !*in.PublicNetworking {
		if in.IPv6 {
			return invalid("ipv6 can not be enabled without public networking")
		}
		if s.opt.Machines != nil {
			return invalid("This simulator boots no droplets without public networking.")
		}
		return nil
	}
	d.Public = s.public.Addr() // there is to be one
	if in.IPv6 {
		d.PublicV6 = netip.MustParseAddr(gatewayV6)
	}
	return nil
}

// gatewayV6 is in a prefix for documentation: nothing answers there.
const gatewayV6 = "2001:db8:d0::1"

// newDroplet makes one droplet of what check has found right.
func (s *Server) newDroplet(d droplet, name string) (*droplet, *action, error) {
	d.ID, d.Name, d.Tags = s.id(), name, slices.Clone(d.Tags)
	var err error
	if d.Private, err = d.VPC.address(); err != nil {
		return nil, nil, invalid("%v", err)
	}
	if d.Public.IsValid() {
		if d.Public, err = s.publicAddress(); err != nil {
			return nil, nil, invalid("%v", err)
		}
	}
	if d.PublicV6.IsValid() {
		d.PublicV6 = netip.MustParseAddr(fmt.Sprintf("2001:db8:d0::%x:%x", d.ID>>16, d.ID&0xffff))
	}
	for _, t := range d.Tags {
		s.ensureTag(t, fmt.Sprintf("/v2/droplets/%d", d.ID))
	}
	for _, v := range d.volumes {
		v.DropletIDs = []int{d.ID}
	}
	s.droplets[d.ID] = &d
	s.projects[0].assign(dropletURN(d.ID))
	a := s.newAction("create", "droplet", d.ID, d.Region)
	s.boot(&d, a, s.nextBoot())
	return &d, a, nil
}

func (s *Server) listDropletSnapshots(r *request) (any, error) {
	return s.imagesOfType(r, "snapshots", "snapshot")
}
func (s *Server) listDropletBackups(r *request) (any, error) {
	return s.imagesOfType(r, "backups", "backup")
}

func (s *Server) imagesOfType(r *request, key, kind string) (any, error) {
	d, err := s.droplet(r)
	if err != nil {
		return nil, err
	}
	return page(s, r, key, wires(filter(s.images, func(im *image) bool { return im.Of == d.ID && im.Type == kind }), (*image).wire))
}

func (s *Server) getBackupPolicy(r *request) (any, error) {
	d, err := s.droplet(r)
	if err != nil {
		return nil, err
	}
	p := object{"droplet_id": d.ID, "backup_enabled": d.Policy != nil}
	if d.Policy != nil {
		p["backup_policy"], p["next_backup_window"] = d.Policy.wire(), s.wireDroplet(d)["next_backup_window"]
	}
	return object{"policy": p}, nil
}

func (s *Server) listKernels(r *request) (any, error) {
	if _, err := s.droplet(r); err != nil {
		return nil, err
	}
	return page(s, r, "kernels", []object{})
}

func (s *Server) listNeighbors(r *request) (any, error) {
	_, err := s.droplet(r)
	return object{"droplets": []object{}}, err
}

func (s *Server) listDropletFirewalls(r *request) (any, error) {
	d, err := s.droplet(r)
	if err != nil {
		return nil, err
	}
	return page(s, r, "firewalls", wires(filter(s.firewalls, func(f *firewall) bool { return f.covers(d) }), s.wireFirewall))
}

func (s *Server) listAssociated(r *request) (any, error) {
	d, err := s.droplet(r)
	if err != nil {
		return nil, err
	}
	out := object{"floating_ips": []object{}, "reserved_ips": []object{}, "snapshots": []object{}, "volumes": []object{}, "volume_snapshots": []object{}}
	for _, ip := range s.reserved {
		if ip.Droplet == d {
			out["reserved_ips"] = append(out["reserved_ips"].([]object), object{"id": ip.IP.String(), "name": ip.IP.String(), "cost": "4.00"})
		}
	}
	for _, im := range s.images {
		if im.Of == d.ID {
			out["snapshots"] = append(out["snapshots"].([]object), object{"id": strconv.Itoa(im.ID), "name": im.Name, "cost": "0.05"})
		}
	}
	for _, v := range s.volumes {
		if slices.Contains(v.DropletIDs, d.ID) {
			out["volumes"] = append(out["volumes"].([]object), object{"id": v.ID, "name": v.Name, "cost": "1.00"})
		}
	}
	return out, nil
}
