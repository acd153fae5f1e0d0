package digitalocean

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/digitalocean/godo"

	"github.com/getberth/berth/drivers"
)

// Check sees that a droplet can be made as it is asked for: the token and what it may do, the account's limit, region, size, image,
// keys and all that is referred to. It makes nothing.
func (d *Driver) Check(ctx context.Context, h *drivers.Host, o drivers.Options) error {
	w, err := parse(o)
	if err != nil {
		return err
	}
	if _, err := userdata(h, w); err != nil {
		return err
	}
	a, err := d.account(ctx, h, w.apiURL, o)
	if err != nil {
		return err
	}
	if err := a.checkAccount(ctx, h.Name, w); err != nil {
		return err
	}
	size, err := a.checkPlace(ctx, w)
	if err != nil {
		return err
	}
	for _, check := range []func() error{
		func() error { return a.checkImage(ctx, w, size) },
		func() error { return a.checkKeys(ctx, w) },
		func() error { _, err := a.findVPC(ctx, w.vpc, w.region); return err },
		func() error { _, err := a.findProject(ctx, w.project); return err },
		func() error { return a.checkVolumes(ctx, w) },
		func() error { return a.checkReserved(ctx, w) },
		func() error { return a.checkName(ctx, h) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// once asks for something that all creates of this process have in common.
func once[T any](ctx context.Context, a *account, name string, get func(context.Context) (T, *godo.Response, error)) (T, error) {
	l, err := cached(ctx, a, name, func(ctx context.Context, _ *godo.ListOptions) ([]T, *godo.Response, error) {
		v, _, err := get(ctx)
		return []T{v}, nil, err
	})
	if err != nil {
		var none T
		return none, err
	}
	return l[0], nil
}

// checkAccount: the token counts, has the scopes that can be told, and the account has room for a droplet more.
func (a *account) checkAccount(ctx context.Context, name string, w *wanted) error {
	account, err := once(ctx, a, "account", a.api.Account.Get)
	if err != nil {
		return fmt.Errorf("asking for the account: %w", explain(err))
	}
	if account.Status == "locked" {
		return fmt.Errorf("the account is locked: %s", printable(account.StatusMessage))
	}
	if err := a.checkScopes(ctx, w); err != nil {
		return err
	}
	n, err := once(ctx, a, "count", a.countDroplets)
	if err != nil {
		return fmt.Errorf("counting the account's droplets: %w", explain(err))
	}
	if n += a.plan(name); account.DropletLimit > 0 && n > account.DropletLimit {
		return fmt.Errorf("the account may have %d droplets; this would be number %d: remove one, or ask DigitalOcean to raise the limit", account.DropletLimit, n)
	}
	return nil
}

// plan counts the machines that are checked at the same time, this one among them: they share what room there is.
func (a *account) plan(name string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.planned[name] = true
	return len(a.planned)
}

func (a *account) countDroplets(ctx context.Context) (int, *godo.Response, error) {
	l, res, err := a.api.Droplets.List(ctx, &godo.ListOptions{PerPage: 1})
	if err != nil {
		return 0, res, err
	}
	if res.Meta != nil {
		return res.Meta.Total, res, nil
	}
	return len(l), res, nil
}

// checkPlace: the region and the size exist, and go together.
func (a *account) checkPlace(ctx context.Context, w *wanted) (*godo.Size, error) {
	regions, err := cached(ctx, a, "regions", a.api.Regions.List)
	if err != nil {
		return nil, fmt.Errorf("asking for the regions: %w", explain(err))
	}
	sizes, err := cached(ctx, a, "sizes", a.api.Sizes.List)
	if err != nil {
		return nil, fmt.Errorf("asking for the sizes: %w", explain(err))
	}
	region, err := pick("region", w.region, regions, func(r godo.Region) (string, bool) { return r.Slug, r.Available })
	if err != nil {
		return nil, err
	}
	size, err := pick("size", w.size, sizes, func(s godo.Size) (string, bool) { return s.Slug, s.Available })
	if err != nil {
		return nil, err
	}
	if !slices.Contains(size.Regions, w.region) && !slices.Contains(region.Sizes, w.size) {
		return nil, fmt.Errorf("--digitalocean-size %q: there is none in the region %s; %s; there are some in %s",
			w.size, w.region, nearest(w.size, slugs(sizes, w.region)), strings.Join(size.Regions, ", "))
	}
	for feature, flag := range map[string]bool{"ipv6": w.ipv6, "backups": w.backups, "storage": len(w.volumes) > 0} {
		if flag && len(region.Features) > 0 && !slices.Contains(region.Features, feature) {
			return nil, fmt.Errorf("--digitalocean-region %q: it has no %s", w.region, feature)
		}
	}
	return size, nil
}

// slugs are the sizes that there are in a region.
func slugs(sizes []godo.Size, region string) (l []string) {
	for _, s := range sizes {
		if s.Available && slices.Contains(s.Regions, region) {
			l = append(l, s.Slug)
		}
	}
	return l
}

// pick finds one by its slug; the error about one that is not there names those that are like it.
func pick[T any](flag, slug string, all []T, describe func(T) (slug string, available bool)) (*T, error) {
	var names []string
	for i, v := range all {
		name, available := describe(v)
		if name == slug && available {
			return &all[i], nil
		}
		if available {
			names = append(names, name)
		}
	}
	return nil, fmt.Errorf("--digitalocean-%s %q: there is none of that name to be had; %s", flag, slug, nearest(slug, names))
}

func (a *account) checkImage(ctx context.Context, w *wanted, size *godo.Size) error {
	im, err := a.image(ctx, w.image)
	if err != nil {
		return err
	}
	switch {
	case !slices.Contains(im.Regions, w.region):
		return fmt.Errorf("--digitalocean-image %q: it is not in the region %s, but in %s", w.image, w.region, strings.Join(im.Regions, ", "))
	case im.MinDiskSize > size.Disk:
		return fmt.Errorf("--digitalocean-image %q: it needs a disk of %d GB, and the size %s has %d", w.image, im.MinDiskSize, w.size, size.Disk)
	case im.Status != "" && im.Status != "available":
		return fmt.Errorf("--digitalocean-image %q: its state is %s", w.image, printable(im.Status))
	}
	return nil
}

func (a *account) image(ctx context.Context, name string) (*godo.Image, error) {
	im, err := once(ctx, a, "image "+name, func(ctx context.Context) (*godo.Image, *godo.Response, error) {
		if id, err := strconv.Atoi(name); err == nil {
			return a.api.Images.GetByID(ctx, id)
		}
		return a.api.Images.GetBySlug(ctx, name)
	})
	if isGone(err) {
		all, lerr := cached(ctx, a, "images", a.api.Images.ListDistribution)
		if lerr != nil {
			return nil, fmt.Errorf("--digitalocean-image %q: there is none", name)
		}
		var names []string
		for _, i := range all {
			if i.Slug != "" {
				names = append(names, i.Slug)
			}
		}
		return nil, fmt.Errorf("--digitalocean-image %q: there is none; %s", name, nearest(name, names))
	}
	if err != nil {
		return nil, fmt.Errorf("--digitalocean-image %q: %w", name, explain(err))
	}
	return im, nil
}

func imageRef(name string) godo.DropletCreateImage {
	if id, err := strconv.Atoi(name); err == nil {
		return godo.DropletCreateImage{ID: id}
	}
	return godo.DropletCreateImage{Slug: name}
}

func (a *account) checkKeys(ctx context.Context, w *wanted) error {
	for _, fp := range w.keys {
		_, err := once(ctx, a, "key "+fp, func(ctx context.Context) (*godo.Key, *godo.Response, error) {
			return a.api.Keys.GetByFingerprint(ctx, fp)
		})
		if isGone(err) {
			all, err := cached(ctx, a, "keys", a.api.Keys.List)
			if err != nil {
				return fmt.Errorf("asking for the account's keys: %w", explain(err))
			}
			var known []string
			for _, k := range all {
				known = append(known, k.Fingerprint+" ("+printable(k.Name)+")")
			}
			return fmt.Errorf("--digitalocean-ssh-key-fingerprint %q: the account has no such key; %s", fp, nearest(fp, known))
		}
		if err != nil {
			return fmt.Errorf("--digitalocean-ssh-key-fingerprint %q: %w", fp, explain(err))
		}
	}
	return nil
}

// checkName tells of a droplet that is called the same, which DigitalOcean allows and which is nobody's mistake to repair here.
func (a *account) checkName(ctx context.Context, h *drivers.Host) error {
	l, _, err := a.api.Droplets.ListByName(ctx, h.Name, &godo.ListOptions{PerPage: 1})
	if err != nil {
		return fmt.Errorf("looking for droplets called %q: %w", h.Name, explain(err))
	}
	if len(l) > 0 {
		logf(h, "there is a droplet called %q already (%d), which is left alone: another one is made", h.Name, l[0].ID)
	}
	return nil
}

// findVPC finds a private network by its ID or name; the ID of "" is "".
func (a *account) findVPC(ctx context.Context, name, region string) (string, error) {
	if name == "" {
		return "", nil
	}
	all, err := cached(ctx, a, "vpcs", a.api.VPCs.List)
	if err != nil {
		return "", fmt.Errorf("asking for the private networks: %w", explain(err))
	}
	var names []string
	for _, v := range all {
		if v.ID != name && v.Name != name {
			names = append(names, v.Name)
			continue
		}
		if v.RegionSlug != region {
			return "", fmt.Errorf("--digitalocean-vpc %q: it is in the region %s, not in %s", name, v.RegionSlug, region)
		}
		return v.ID, nil
	}
	return "", fmt.Errorf("--digitalocean-vpc %q: there is none; %s", name, nearest(name, names))
}

// findProject finds a project by its ID or name; the ID of "" is "".
func (a *account) findProject(ctx context.Context, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	all, err := cached(ctx, a, "projects", a.api.Projects.List)
	if err != nil {
		return "", fmt.Errorf("asking for the projects: %w", explain(err))
	}
	var names []string
	for _, p := range all {
		if p.ID == name || p.Name == name {
			return p.ID, nil
		}
		names = append(names, p.Name)
	}
	return "", fmt.Errorf("--digitalocean-project %q: there is none; %s", name, nearest(name, names))
}

func (a *account) checkVolumes(ctx context.Context, w *wanted) error {
	for _, v := range w.volumes {
		if v.GB > 0 {
			continue
		}
		if _, err := a.findVolume(ctx, v.Name, w.region); err != nil {
			return err
		}
	}
	return nil
}

// findVolume finds a volume that exists, by its ID or name, and that is free.
func (a *account) findVolume(ctx context.Context, name, region string) (string, error) {
	all, err := pages(ctx, func(ctx context.Context, o *godo.ListOptions) ([]godo.Volume, *godo.Response, error) {
		return a.api.Storage.ListVolumes(ctx, &godo.ListVolumeParams{Region: region, ListOptions: o})
	})
	if err != nil {
		return "", fmt.Errorf("asking for the volumes: %w", explain(err))
	}
	var names []string
	for _, v := range all {
		if v.ID == name || v.Name == name {
			if len(v.DropletIDs) > 0 {
				return "", fmt.Errorf("--digitalocean-volume %q: droplet %d has it", name, v.DropletIDs[0])
			}
			return v.ID, nil
		}
		names = append(names, v.Name)
	}
	return "", fmt.Errorf("--digitalocean-volume %q: there is none in the region %s; %s", name, region, nearest(name, names))
}

func (a *account) checkReserved(ctx context.Context, w *wanted) error {
	if w.reserved == "" || w.reserved == "new" {
		return nil
	}
	ip, _, err := a.api.ReservedIPs.Get(ctx, w.reserved)
	switch {
	case status(err) == http.StatusNotFound:
		return fmt.Errorf("--digitalocean-reserved-ip %q: the account has no such address", w.reserved)
	case err != nil:
		return fmt.Errorf("--digitalocean-reserved-ip %q: %w", w.reserved, explain(err))
	case ip.Region != nil && ip.Region.Slug != w.region:
		return fmt.Errorf("--digitalocean-reserved-ip %q: it is in the region %s, not in %s", w.reserved, ip.Region.Slug, w.region)
	case ip.Droplet != nil:
		return errors.New("--digitalocean-reserved-ip " + w.reserved + ": another droplet has it")
	}
	return nil
}
