package fakeapi

import (
	"github.com/digitalocean/godo"
	"golang.org/x/crypto/ssh"
)

func regions() []godo.Region {
	small := []string{"s-1vcpu-1gb", "s-1vcpu-2gb"}
	features := []string{"backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"}
	return []godo.Region{
		{Slug: "nyc1", Name: "New York 1", Available: false, Sizes: nil, Features: features},
		{Slug: "nyc3", Name: "New York 3", Available: true, Sizes: append(small, "s-2vcpu-4gb"), Features: features},
		{Slug: "ams3", Name: "Amsterdam 3", Available: true, Sizes: small, Features: features},
	}
}

func sizes() []godo.Size {
	both := []string{"ams3", "nyc3"}
	return []godo.Size{
		{Slug: "s-2vcpu-4gb", Memory: 4096, Vcpus: 2, Disk: 80, Transfer: 4, PriceMonthly: 24, PriceHourly: 0.03571, Regions: []string{"nyc3"}, Available: true},
		{Slug: "s-1vcpu-1gb", Memory: 1024, Vcpus: 1, Disk: 25, Transfer: 1, PriceMonthly: 6, PriceHourly: 0.00893, Regions: both, Available: true},
		{Slug: "s-1vcpu-2gb", Memory: 2048, Vcpus: 1, Disk: 50, Transfer: 2, PriceMonthly: 12, PriceHourly: 0.01786, Regions: both, Available: true},
	}
}

func images() []godo.Image {
	return []godo.Image{
		{ID: 101, Slug: "debian-12-x64", Name: "12 x64", Distribution: "Debian", Type: "base", Public: true, Regions: []string{"nyc3", "ams3"}, MinDiskSize: 7, Status: "available"},
		{ID: 102, Slug: "ubuntu-24-04-x64", Name: "24.04 x64", Distribution: "Ubuntu", Type: "base", Public: true, Regions: []string{"nyc3"}, MinDiskSize: 7, Status: "available"},
		{ID: 103, Name: "mine", Distribution: "Debian", Type: "custom", Regions: []string{"nyc3"}, MinDiskSize: 20, Status: "available"},
		{ID: 104, Name: "big", Distribution: "Debian", Type: "snapshot", Regions: []string{"nyc3"}, MinDiskSize: 60, Status: "available"},
	}
}

// IDs of what the account has.
const (
	VPC     = "5a4981aa-9653-4bd1-bef5-d6bff52042e4"
	Project = "4e1bfbc3-dc3e-41f2-a18f-1b4d7ba71679"
)

func vpcs() []*godo.VPC {
	return []*godo.VPC{
		{ID: VPC, Name: "office", RegionSlug: "nyc3", IPRange: "10.116.0.0/20"},
		{ID: "e0fe0f4d-596a-465e-a902-571ce57b79fa", Name: "far", RegionSlug: "ams3", IPRange: "10.117.0.0/20"},
	}
}

func projects() []godo.Project { return []godo.Project{{ID: Project, Name: "shop"}} }

func fingerprint(key string) (string, error) {
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key))
	if err != nil {
		return "", err
	}
	return ssh.FingerprintLegacyMD5(k), nil
}
