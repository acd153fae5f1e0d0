package digitalocean

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/digitalocean/godo"

	"github.com/getberth/berth/drivers"
)

// Kinds of orphans.
const (
	kindReserved = "reserved-ip"
	kindDroplet  = "droplet"
	kindVolume   = "volume"
	kindFirewall = "firewall"
	kindKey      = "ssh-key"
	kindTag      = "tag"
)

// Orphans lists what bears the store's mark and that of none of its machines, in the order in which it can be deleted.
func (d *Driver) Orphans(ctx context.Context, h *drivers.Host, o drivers.Options, known []json.RawMessage) ([]drivers.Orphan, error) {
	store, err := storeID(h)
	if err != nil {
		return nil, err
	}
	a, err := d.account(ctx, h, o.String("digitalocean-api-url"), o)
	if err != nil {
		return nil, err
	}
	s := search{account: a, store: store, marks: map[string]bool{}, ids: map[int]bool{}}
	for _, raw := range known {
		st, err := load(&drivers.Host{State: raw})
		if err != nil {
			return nil, fmt.Errorf("the record of a machine cannot be read, so that it cannot be told what is its: %w", err)
		}
		if st != nil {
			s.marks[st.Mark], s.ids[st.Droplet] = true, true
		}
	}
	for _, find := range []func(context.Context) error{s.droplets, s.volumes, s.firewalls, s.keys, s.tags} {
		if err := find(ctx); err != nil {
			return nil, explain(err)
		}
	}
	return s.found, nil
}

// search is one run of Orphans.
type search struct {
	*account
	store string
	marks map[string]bool // of machines that are known
	ids   map[int]bool    // of their droplets
	found []drivers.Orphan
}

func (s *search) add(kind, id, name, detail string) {
	s.found = append(s.found, drivers.Orphan{Kind: kind, ID: id, Name: printable(name), Detail: printable(detail)})
}

// stray tells a name that begins with the store's mark and goes on with that of no machine.
func (s *search) stray(name string) bool {
	rest, ours := strings.CutPrefix(name, namePrefix(s.store))
	mark, _, _ := strings.Cut(rest, "-")
	return ours && len(mark) == 32 && !s.marks[mark]
}

// strayTags tells tags of which one is the store's and none is that of a machine.
func (s *search) strayTags(tags []string) bool {
	ours := false
	for _, t := range tags {
		if mark, ok := strings.CutPrefix(t, "berth:"); ok && s.marks[mark] {
			return false
		}
		ours = ours || t == storeTag(s.store)
	}
	return ours
}

func (s *search) droplets(ctx context.Context) error {
	all, err := s.account.droplets(ctx, s.store, time.Now())
	if err != nil {
		return fmt.Errorf("listing droplets: %w", err)
	}
	for _, d := range all {
		if !s.strayTags(d.Tags) || s.ids[d.ID] {
			continue
		}
		if slices.Contains(d.Tags, ownsAddress) {
			if err := s.reserved(ctx, d); err != nil {
				return err
			}
		}
		region := ""
		if d.Region != nil {
			region = d.Region.Slug
		}
		s.add(kindDroplet, strconv.Itoa(d.ID), d.Name, strings.Join([]string{d.SizeSlug, region, d.Status, age(d)}, ", "))
		for _, t := range d.Tags {
			if mark, ok := strings.CutPrefix(t, "berth:"); ok {
				s.add(kindTag, t, t, "of the droplet "+d.Name+" "+mark[:min(8, len(mark))])
			}
		}
	}
	return nil
}

// reserved finds the address that was made with a droplet. It is deleted first: it is found by its droplet only.
func (s *search) reserved(ctx context.Context, d godo.Droplet) error {
	ip, err := s.reservedOf(ctx, d.ID)
	if err != nil {
		return fmt.Errorf("listing reserved IPs: %w", err)
	}
	if ip != nil {
		s.add(kindReserved, ip.IP, ip.IP, "of the droplet "+d.Name)
	}
	return nil
}

func (s *search) volumes(ctx context.Context) error {
	all, err := pages(ctx, func(ctx context.Context, o *godo.ListOptions) ([]godo.Volume, *godo.Response, error) {
		return s.api.Storage.ListVolumes(ctx, &godo.ListVolumeParams{ListOptions: o})
	})
	if err != nil {
		return fmt.Errorf("listing volumes: %w", err)
	}
	for _, v := range all {
		if s.stray(v.Name) {
			s.add(kindVolume, v.ID, v.Name, fmt.Sprintf("%d GB", v.SizeGigaBytes))
		}
	}
	return nil
}

func (s *search) firewalls(ctx context.Context) error {
	all, err := pages(ctx, s.api.Firewalls.List)
	if err != nil {
		return fmt.Errorf("listing firewalls: %w", err)
	}
	for _, f := range all {
		if s.stray(f.Name) {
			s.add(kindFirewall, f.ID, f.Name, "")
		}
	}
	return nil
}

func (s *search) keys(ctx context.Context) error {
	all, err := pages(ctx, s.api.Keys.List)
	if err != nil {
		return fmt.Errorf("listing SSH keys: %w", err)
	}
	for _, k := range all {
		if s.stray(k.Name) {
			s.add(kindKey, strconv.Itoa(k.ID), k.Name, k.Fingerprint)
		}
	}
	return nil
}

// tags finds the tags of firewalls that are left over, which nothing else tells of the store; those of droplets are known by now.
func (s *search) tags(context.Context) error {
	for _, o := range s.found {
		if o.Kind != kindFirewall && o.Kind != kindVolume && o.Kind != kindKey {
			continue
		}
		mark, _, _ := strings.Cut(strings.TrimPrefix(o.Name, namePrefix(s.store)), "-")
		tag := "berth:" + mark
		if !s.has(kindTag, tag) {
			s.add(kindTag, tag, tag, "of the "+o.Kind+" "+o.Name)
		}
	}
	// A tag goes last: by it the others are found.
	var tags, rest []drivers.Orphan
	for _, o := range s.found {
		if o.Kind == kindTag {
			tags = append(tags, o)
		} else {
			rest = append(rest, o)
		}
	}
	s.found = append(rest, tags...)
	return nil
}

func (s *search) has(kind, id string) bool {
	for _, o := range s.found {
		if o.Kind == kind && o.ID == id {
			return true
		}
	}
	return false
}

// Collect deletes one of them.
func (d *Driver) Collect(ctx context.Context, h *drivers.Host, o drivers.Options, orphan drivers.Orphan) error {
	a, err := d.account(ctx, h, o.String("digitalocean-api-url"), o)
	if err != nil {
		return err
	}
	number, nerr := strconv.Atoi(orphan.ID)
	switch orphan.Kind {
	case kindReserved:
		return a.deleteReserved(ctx, orphan.ID)
	case kindDroplet:
		if nerr != nil {
			return nerr
		}
		return a.deleteDroplet(ctx, number)
	case kindVolume:
		return a.deleteVolume(ctx, orphan.ID, orphan.Name)
	case kindFirewall:
		return a.deleteFirewall(ctx, orphan.ID)
	case kindKey:
		if nerr != nil {
			return nerr
		}
		_, err = a.api.Keys.DeleteByID(ctx, number)
	case kindTag:
		_, err = a.api.Tags.Delete(ctx, orphan.ID)
	default:
		return fmt.Errorf("the driver does not know what a %s is", orphan.Kind)
	}
	if isGone(err) {
		return nil
	}
	return wrap("removing the "+orphan.Kind+" "+orphan.Name, err)
}
