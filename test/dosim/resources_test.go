package dosim_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/digitalocean/godo"
	"golang.org/x/crypto/ssh"

	"github.com/getberth/berth/test/dosim"
)

func TestKeys(t *testing.T) {
	_, c := start(t, dosim.Options{})
	ctx := t.Context()
	signer, line := newKey(t)
	k := must(c.Keys.Create(ctx, &godo.KeyCreateRequest{Name: "one", PublicKey: line}))(t)
	if want := ssh.FingerprintLegacyMD5(signer.PublicKey()); k.Fingerprint != want {
		t.Errorf("fingerprint is %s, want %s", k.Fingerprint, want)
	}
	if _, _, err := c.Keys.Create(ctx, &godo.KeyCreateRequest{Name: "two", PublicKey: line}); status(err) != http.StatusUnprocessableEntity {
		t.Errorf("the same key again: %v", err)
	}
	if _, _, err := c.Keys.Create(ctx, &godo.KeyCreateRequest{Name: "two", PublicKey: "ssh-rsa nonsense"}); status(err) != http.StatusUnprocessableEntity {
		t.Errorf("what is no key: %v", err)
	}
	if got := must(c.Keys.GetByFingerprint(ctx, k.Fingerprint))(t); got.ID != k.ID {
		t.Errorf("by fingerprint: %v", got)
	}
	r := request("web1")
	r.SSHKeys = []godo.DropletCreateSSHKey{{Fingerprint: k.Fingerprint}, {ID: k.ID}}
	must(c.Droplets.Create(ctx, r))(t)
	if _, err := c.Keys.DeleteByID(ctx, k.ID); err != nil {
		t.Error(err)
	}
	if list := must(c.Keys.List(ctx, nil))(t); len(list) != 0 {
		t.Errorf("left are %v", list)
	}
}

func TestCatalogue(t *testing.T) {
	_, c := start(t, dosim.Options{})
	ctx := t.Context()
	var debian godo.Image
	for _, im := range must(c.Images.ListDistribution(ctx, nil))(t) {
		if im.Slug == "debian-12-x64" {
			debian = im
		}
	}
	if got := must(c.Images.GetByID(ctx, debian.ID))(t); got.Slug != debian.Slug || !got.Public || got.MinDiskSize == 0 {
		t.Errorf("by id: %v", got)
	}
	if got := must(c.Images.GetBySlug(ctx, debian.Slug))(t); got.ID != debian.ID {
		t.Errorf("by slug: %v", got)
	}
	if list := must(c.Images.ListApplication(ctx, nil))(t); len(list) == 0 {
		t.Error("there are no applications")
	}
	if list := must(c.Images.ListUser(ctx, nil))(t); len(list) != 0 {
		t.Errorf("the user's images are %v", list)
	}
	for _, z := range must(c.Sizes.List(ctx, nil))(t) {
		if z.PriceMonthly == 0 || z.PriceHourly == 0 || z.Memory == 0 || z.Available != (len(z.Regions) > 0) {
			t.Errorf("size %v", z)
		}
	}
	for _, r := range must(c.Regions.List(ctx, nil))(t) {
		if r.Name == "" || r.Available != (len(r.Sizes) > 0) {
			t.Errorf("region %v", r)
		}
	}
	if a := must(c.Account.Get(ctx))(t); a.DropletLimit == 0 || a.Status != "active" {
		t.Errorf("account %v", a)
	}
}

func TestVPCs(t *testing.T) {
	_, c := start(t, dosim.Options{})
	ctx := t.Context()
	v := must(c.VPCs.Create(ctx, &godo.VPCCreateRequest{Name: "mine", RegionSlug: "nyc3", IPRange: "10.9.8.0/24"}))(t)
	if _, _, err := c.VPCs.Create(ctx, &godo.VPCCreateRequest{Name: "other", RegionSlug: "nyc3", IPRange: "10.9.0.0/16"}); status(err) != http.StatusUnprocessableEntity {
		t.Errorf("an overlapping range: %v", err)
	}
	r := request("web1")
	r.VPCUUID = v.ID
	d := active(t, c, must(c.Droplets.Create(ctx, r))(t).ID)
	if ip, _ := d.PrivateIPv4(); ip != "10.9.8.2" || d.VPCUUID != v.ID {
		t.Errorf("private address %s in %s", ip, d.VPCUUID)
	}
	if m := must(c.VPCs.ListMembers(ctx, v.ID, nil, nil))(t); len(m) != 1 || m[0].Name != "web1" {
		t.Errorf("members %v", m)
	}
	if _, err := c.VPCs.Delete(ctx, v.ID); status(err) != http.StatusForbidden {
		t.Errorf("removing one with members: %v", err)
	}
}

func TestFirewalls(t *testing.T) {
	_, c := start(t, dosim.Options{})
	ctx := t.Context()
	r := request("web1")
	r.Tags = []string{"web"}
	d := must(c.Droplets.Create(ctx, r))(t)
	in := godo.InboundRule{Protocol: "tcp", PortRange: "22", Sources: &godo.Sources{Addresses: []string{"192.0.2.1", "2001:db8::/32"}}}
	out := godo.OutboundRule{Protocol: "tcp", PortRange: "all", Destinations: &godo.Destinations{Addresses: []string{"0.0.0.0/0", "::/0"}}}
	f := must(c.Firewalls.Create(ctx, &godo.FirewallRequest{Name: "fw", InboundRules: []godo.InboundRule{in}, OutboundRules: []godo.OutboundRule{out}, Tags: []string{"web"}}))(t)
	if list := must(c.Firewalls.ListByDroplet(ctx, d.ID, nil))(t); len(list) != 1 || list[0].InboundRules[0].PortRange != "22" {
		t.Errorf("the droplet's firewalls: %v", list)
	}
	if _, err := c.Firewalls.AddRules(ctx, f.ID, &godo.FirewallRulesRequest{InboundRules: []godo.InboundRule{{Protocol: "tcp", PortRange: "80-90", Sources: &godo.Sources{Tags: []string{"web"}}}}}); err != nil {
		t.Error(err)
	}
	if _, err := c.Firewalls.RemoveRules(ctx, f.ID, &godo.FirewallRulesRequest{InboundRules: []godo.InboundRule{in}}); err != nil {
		t.Error(err)
	}
	if got := must(c.Firewalls.Get(ctx, f.ID))(t); len(got.InboundRules) != 1 || got.InboundRules[0].PortRange != "80-90" {
		t.Errorf("rules are %v", got.InboundRules)
	}
	for what, bad := range map[string]godo.InboundRule{
		"protocol": {Protocol: "sctp", PortRange: "22", Sources: in.Sources},
		"port":     {Protocol: "tcp", PortRange: "70000", Sources: in.Sources},
		"range":    {Protocol: "tcp", PortRange: "90-80", Sources: in.Sources},
		"address":  {Protocol: "tcp", PortRange: "22", Sources: &godo.Sources{Addresses: []string{"somewhere"}}},
		"source":   {Protocol: "tcp", PortRange: "22", Sources: &godo.Sources{}},
		"droplet":  {Protocol: "tcp", PortRange: "22", Sources: &godo.Sources{DropletIDs: []int{1}}},
	} {
		if _, _, err := c.Firewalls.Create(ctx, &godo.FirewallRequest{Name: "bad", InboundRules: []godo.InboundRule{bad}}); status(err) != http.StatusUnprocessableEntity {
			t.Errorf("a rule with a bad %s: %v", what, err)
		}
	}
	if _, err := c.Firewalls.Delete(ctx, f.ID); err != nil {
		t.Error(err)
	}
}

func TestReservedIPs(t *testing.T) {
	_, c := start(t, dosim.Options{})
	ctx := t.Context()
	d := active(t, c, must(c.Droplets.Create(ctx, request("web1")))(t).ID)
	ip := must(c.ReservedIPs.Create(ctx, &godo.ReservedIPCreateRequest{Region: "nyc3"}))(t)
	a := must(c.ReservedIPActions.Assign(ctx, ip.IP, d.ID))(t)
	wait(t, "it is assigned", func() bool {
		return must(c.ReservedIPActions.Get(ctx, ip.IP, a.ID))(t).Status == godo.ActionCompleted
	})
	if got := must(c.ReservedIPs.Get(ctx, ip.IP))(t); got.Droplet == nil || got.Droplet.ID != d.ID {
		t.Errorf("assigned to %v", got.Droplet)
	}
	if _, err := c.Droplets.Delete(ctx, d.ID); err != nil {
		t.Error(err)
	}
	if got := must(c.ReservedIPs.Get(ctx, ip.IP))(t); got.Droplet != nil {
		t.Errorf("assigned to a droplet that is gone: %v", got.Droplet)
	}
	if _, err := c.ReservedIPs.Delete(ctx, ip.IP); err != nil {
		t.Error(err)
	}
}

func TestVolumes(t *testing.T) {
	_, c := start(t, dosim.Options{})
	ctx := t.Context()
	v := must(c.Storage.CreateVolume(ctx, &godo.VolumeCreateRequest{Name: "data", Region: "nyc3", SizeGigaBytes: 10, FilesystemType: "ext4"}))(t)
	r := request("web1")
	r.Volumes = []godo.DropletCreateVolume{{ID: v.ID}}
	d := active(t, c, must(c.Droplets.Create(ctx, r))(t).ID)
	if len(d.VolumeIDs) != 1 || d.VolumeIDs[0] != v.ID {
		t.Errorf("volumes are %v", d.VolumeIDs)
	}
	if _, err := c.Storage.DeleteVolume(ctx, v.ID); status(err) != http.StatusConflict {
		t.Errorf("removing one that is attached: %v", err)
	}
	must(c.Storage.CreateSnapshot(ctx, &godo.SnapshotCreateRequest{VolumeID: v.ID, Name: "s1"}))(t)
	if list := must(c.Snapshots.ListVolume(ctx, nil))(t); len(list) != 1 || list[0].ResourceID != v.ID {
		t.Errorf("snapshots are %v", list)
	}
	must(c.StorageActions.DetachByDropletID(ctx, v.ID, d.ID))(t)
	must(c.StorageActions.Resize(ctx, v.ID, 20, "nyc3"))(t)
	if got := must(c.Storage.GetVolume(ctx, v.ID))(t); got.SizeGigaBytes != 20 || len(got.DropletIDs) != 0 {
		t.Errorf("volume is %v", got)
	}
	if _, err := c.Storage.DeleteVolume(ctx, v.ID); err != nil {
		t.Error(err)
	}
}

func TestProjects(t *testing.T) {
	_, c := start(t, dosim.Options{})
	ctx := t.Context()
	d := must(c.Droplets.Create(ctx, request("web1")))(t)
	p := must(c.Projects.Create(ctx, &godo.CreateProjectRequest{Name: "mine", Purpose: "tests", Environment: "Development"}))(t)
	if got := must(c.Projects.AssignResources(ctx, p.ID, d, "do:droplet:1"))(t); len(got) != 2 || got[0].Status != "assigned" || got[1].Status != "not_found" {
		t.Errorf("assigned %v", got)
	}
	if list := must(c.Projects.ListResources(ctx, p.ID, nil))(t); len(list) != 1 || list[0].URN != d.URN() {
		t.Errorf("resources are %v", list)
	}
	standard := must(c.Projects.GetDefault(ctx))(t)
	if list := must(c.Projects.ListResources(ctx, standard.ID, nil))(t); len(list) != 0 {
		t.Errorf("resources left in the default project: %v", list)
	}
	if _, err := c.Projects.Delete(ctx, p.ID); status(err) != http.StatusPreconditionFailed {
		t.Errorf("removing one with resources: %v", err)
	}
}

func TestTags(t *testing.T) {
	_, c := start(t, dosim.Options{})
	ctx := t.Context()
	d := must(c.Droplets.Create(ctx, request("web1")))(t)
	must(c.Tags.Create(ctx, &godo.TagCreateRequest{Name: "Prod"}))(t)
	resource := []godo.Resource{{ID: strings.TrimPrefix(d.URN(), "do:droplet:"), Type: godo.DropletResourceType}}
	if _, err := c.Tags.TagResources(ctx, "Prod", &godo.TagResourcesRequest{Resources: resource}); err != nil {
		t.Fatal(err)
	}
	if list := must(c.Droplets.ListByTag(ctx, "prod", nil))(t); len(list) != 1 {
		t.Errorf("tagged are %v", list)
	}
	if _, err := c.Tags.UntagResources(ctx, "Prod", &godo.UntagResourcesRequest{Resources: resource}); err != nil {
		t.Fatal(err)
	}
	if list := must(c.Droplets.ListByTag(ctx, "Prod", nil))(t); len(list) != 0 {
		t.Errorf("tagged are %v", list)
	}
	if _, err := c.Tags.Delete(ctx, "Prod"); err != nil {
		t.Error(err)
	}
	if _, _, err := c.Tags.Get(ctx, "Prod"); status(err) != http.StatusNotFound {
		t.Errorf("a tag that is gone: %v", err)
	}
}
