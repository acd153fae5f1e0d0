package digitalocean

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/digitalocean/godo"

	"github.com/getberth/berth/drivers"
)

// Catalogs names the lists.
func (d *Driver) Catalogs() []string { return []string{"sizes", "regions", "images"} }

// Catalog lists what there is to choose from. Prices are in US dollars.
func (d *Driver) Catalog(ctx context.Context, h *drivers.Host, o drivers.Options, name string) (drivers.Catalog, error) {
	a, err := d.account(ctx, h, o.String("digitalocean-api-url"), o)
	if err != nil {
		return drivers.Catalog{}, err
	}
	var c drivers.Catalog
	switch name {
	case "sizes":
		c, err = a.sizes(ctx)
	case "regions":
		c, err = a.regions(ctx)
	case "images":
		c, err = a.images(ctx)
	default:
		return c, fmt.Errorf("there is no list of %s; there are %s", name, strings.Join(d.Catalogs(), ", "))
	}
	return c, wrap("asking for the "+name, err)
}

func (a *account) sizes(ctx context.Context) (drivers.Catalog, error) {
	all, err := cached(ctx, a, "sizes", a.api.Sizes.List)
	c := drivers.Catalog{Columns: []string{"size", "cpus", "memory_mb", "disk_gb", "transfer_tb", "usd_month", "usd_hour", "regions"}}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b godo.Size) int { return cmp.Compare(a.PriceMonthly, b.PriceMonthly) })
	for _, s := range all {
		if s.Available && len(s.Regions) > 0 {
			c.Rows = append(c.Rows, []string{
				printable(s.Slug), strconv.Itoa(s.Vcpus), strconv.Itoa(s.Memory), strconv.Itoa(s.Disk), strconv.FormatFloat(s.Transfer, 'f', -1, 64),
				strconv.FormatFloat(s.PriceMonthly, 'f', 2, 64), strconv.FormatFloat(s.PriceHourly, 'f', 5, 64), printable(strings.Join(s.Regions, ",")),
			})
		}
	}
	return c, err
}

func (a *account) regions(ctx context.Context) (drivers.Catalog, error) {
	all, err := cached(ctx, a, "regions", a.api.Regions.List)
	c := drivers.Catalog{Columns: []string{"region", "name", "sizes", "features"}}
	for _, r := range all {
		if r.Available {
			c.Rows = append(c.Rows, []string{printable(r.Slug), printable(r.Name), strconv.Itoa(len(r.Sizes)), printable(strings.Join(r.Features, ","))})
		}
	}
	return c, err
}

// images are those that distributions make, and the account's own.
func (a *account) images(ctx context.Context) (drivers.Catalog, error) {
	c := drivers.Catalog{Columns: []string{"image", "distribution", "name", "min_disk_gb", "kind"}}
	all, err := cached(ctx, a, "images", a.api.Images.ListDistribution)
	if err != nil {
		return c, err
	}
	own, err := cached(ctx, a, "own images", a.api.Images.ListUser)
	if err != nil {
		return c, err
	}
	for _, im := range append(slices.Clone(all), own...) {
		ref := im.Slug
		if ref == "" {
			ref = strconv.Itoa(im.ID)
		}
		c.Rows = append(c.Rows, []string{printable(ref), printable(im.Distribution), printable(im.Name), strconv.Itoa(im.MinDiskSize), printable(im.Type)})
	}
	return c, nil
}
