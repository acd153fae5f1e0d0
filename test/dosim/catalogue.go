package dosim

import (
	"slices"
	"strings"
)

// size is a plan: memory in MiB, disk in GB, transfer in TB, prices in US dollars.
type size struct {
	Slug               string
	Memory, CPUs, Disk int
	Transfer           float64
	Monthly, Hourly    float64
	Description        string
	unavailable        bool
	regions            []string // nil: all that are available
}

// sizes are some of the real ones, with their prices of 2025, one that is sold in few regions and one that is sold no more.
func sizes() []size {
	return []size{
		{"s-1vcpu-512mb-10gb", 512, 1, 10, 0.5, 4, 0.00595, "Basic", false, []string{"nyc1", "nyc3", "ams3", "fra1", "sfo3", "sgp1", "syd1"}},
		{"s-1vcpu-1gb", 1024, 1, 25, 1, 6, 0.00893, "Basic", false, nil},
		{"s-1vcpu-2gb", 2048, 1, 50, 2, 12, 0.01786, "Basic", false, nil},
		{"s-2vcpu-2gb", 2048, 2, 60, 3, 18, 0.02679, "Basic", false, nil},
		{"s-2vcpu-4gb", 4096, 2, 80, 4, 24, 0.03571, "Basic", false, nil},
		{"s-4vcpu-8gb", 8192, 4, 160, 5, 48, 0.07143, "Basic", false, nil},
		{"s-8vcpu-16gb", 16384, 8, 320, 6, 96, 0.14286, "Basic", false, nil},
		{"c-2", 4096, 2, 25, 4, 42, 0.0625, "CPU-Optimized", false, nil},
		{"c-4", 8192, 4, 50, 5, 84, 0.125, "CPU-Optimized", false, nil},
		{"g-2vcpu-8gb", 8192, 2, 25, 4, 63, 0.09375, "General Purpose", false, nil},
		{"m-2vcpu-16gb", 16384, 2, 50, 4, 84, 0.125, "Memory-Optimized", false, []string{"nyc1", "nyc3", "fra1"}},
		{"1gb", 1024, 1, 30, 2, 10, 0.01488, "Legacy Basic", true, nil},
	}
}

type region struct {
	Slug, Name string
	available  bool
}

// regions are the real ones. nyc2 takes no new droplets.
func regions() []region {
	return []region{
		{"nyc1", "New York 1", true}, {"sfo1", "San Francisco 1", false}, {"nyc2", "New York 2", false}, {"ams2", "Amsterdam 2", false},
		{"sgp1", "Singapore 1", true}, {"lon1", "London 1", true}, {"nyc3", "New York 3", true}, {"ams3", "Amsterdam 3", true},
		{"fra1", "Frankfurt 1", true}, {"tor1", "Toronto 1", true}, {"sfo2", "San Francisco 2", true}, {"blr1", "Bangalore 1", true},
		{"sfo3", "San Francisco 3", true}, {"syd1", "Sydney 1", true}, {"atl1", "Atlanta 1", true},
	}
}

func availableRegions() []string {
	var slugs []string
	for _, r := range regions() {
		if r.available {
			slugs = append(slugs, r.Slug)
		}
	}
	return slugs
}

func (z size) soldIn(region string) bool {
	return !z.unavailable && slices.Contains(availableRegions(), region) && (z.regions == nil || slices.Contains(z.regions, region))
}

func sizeBySlug(slug string) (size, bool) {
	i := slices.IndexFunc(sizes(), func(z size) bool { return z.Slug == slug })
	if i < 0 {
		return size{}, false
	}
	return sizes()[i], true
}

func (z size) wire() object {
	in := z.regions
	if in == nil {
		in = availableRegions()
	}
	if z.unavailable {
		in = []string{}
	}
	return object{
		"slug": z.Slug, "memory": z.Memory, "vcpus": z.CPUs, "disk": z.Disk, "transfer": z.Transfer, "price_monthly": z.Monthly,
		"price_hourly": z.Hourly, "regions": in, "available": !z.unavailable, "description": z.Description,
		"disk_info": []object{{"type": "local", "size": object{"amount": z.Disk, "unit": "gib"}}},
	}
}

func regionBySlug(slug string) (region, bool) {
	i := slices.IndexFunc(regions(), func(r region) bool { return r.Slug == slug })
	if i < 0 {
		return region{}, false
	}
	return regions()[i], true
}

func (r region) wire() object {
	in := []string{}
	for _, z := range sizes() {
		if z.soldIn(r.Slug) {
			in = append(in, z.Slug)
		}
	}
	return object{"name": r.Name, "slug": r.Slug, "available": r.available, "sizes": in,
		"features": []string{"backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"}}
}

func regionWire(slug string) object {
	r, _ := regionBySlug(slug)
	return r.wire()
}

// image is a distribution, an application, or a snapshot or backup of a droplet.
type image struct {
	ID           int
	Slug         string // "" for the user's own
	Name         string
	Distribution string
	Type         string // base, snapshot, backup or custom
	Kind         string // of public ones: distribution or application
	MinDisk      int
	Size         float64
	Regions      []string
	Created      string
	Tags         []string
	Description  string
	Of           int // the droplet that it was made of
}

// catalogueImages are the public images.
func catalogueImages() []*image {
	var list []*image
	for i, s := range []string{
		"debian-12-x64 Debian 12 x64", "debian-13-x64 Debian 13 x64", "ubuntu-22-04-x64 Ubuntu 22.04 (LTS) x64",
		"ubuntu-24-04-x64 Ubuntu 24.04 (LTS) x64", "ubuntu-25-04-x64 Ubuntu 25.04 x64", "fedora-41-x64 Fedora 41 x64", "fedora-42-x64 Fedora 42 x64",
		"almalinux-9-x64 AlmaLinux 9", "rockylinux-9-x64 RockyLinux 9.5 x64", "centos-stream-9-x64 CentOS 9 Stream x64",
		"docker-20-04 Docker on Ubuntu 22.04", "wordpress-20-04 WordPress on Ubuntu 22.04",
	} {
		f := strings.SplitN(s, " ", 3)
		im := &image{ID: 190000001 + 1013*i, Slug: f[0], Name: f[2], Distribution: f[1], Type: "base", Kind: "distribution", MinDisk: 7, Size: 0.9,
			Regions: availableRegions(), Created: "2025-05-15T00:00:00Z"}
		if strings.HasSuffix(im.Slug, "-20-04") {
			im.Kind, im.Name, im.Distribution, im.MinDisk, im.Type = "application", f[1]+" "+f[2], "Ubuntu", 25, "snapshot"
		}
		list = append(list, im)
	}
	return list
}

func (im *image) wire() object {
	var slug any
	if im.Slug != "" {
		slug = im.Slug
	}
	return object{
		"id": im.ID, "name": im.Name, "type": im.Type, "distribution": im.Distribution, "slug": slug, "public": im.Slug != "",
		"regions": orEmpty(im.Regions), "created_at": im.Created, "min_disk_size": im.MinDisk, "size_gigabytes": im.Size,
		"description": im.Description, "tags": orEmpty(im.Tags), "status": "available", "error_message": "",
	}
}
