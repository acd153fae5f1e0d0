package digitalocean

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/digitalocean/godo"

	"github.com/getberth/berth/drivers"
)

// Resize gives the droplet another size, for which it must be off.
func (d *Driver) Resize(ctx context.Context, h *drivers.Host, size string, disk bool) error {
	j, err := d.open(ctx, h)
	if err != nil {
		return err
	}
	sizes, err := cached(ctx, j.account, "sizes", j.api.Sizes.List)
	if err != nil {
		return fmt.Errorf("asking for the sizes: %w", explain(err))
	}
	if here := slugs(sizes, j.s.Region); !slices.Contains(here, size) {
		return fmt.Errorf("size %q: there is none in the region %s; %s", size, j.s.Region, nearest(size, here))
	}
	droplet, err := j.present(ctx, time.Now())
	if err != nil {
		return err
	}
	if droplet.SizeSlug != size {
		if err := d.Stop(ctx, h); err != nil {
			return err
		}
		err = j.act(ctx, "resizing the droplet", func() (*godo.Action, *godo.Response, error) {
			return j.api.DropletActions.Resize(ctx, j.s.Droplet, size, disk)
		})
		if err != nil {
			return err
		}
	}
	j.s.Size = size
	if err := j.save(); err != nil || droplet.Status != "active" {
		return err
	}
	return j.awaitBoot(ctx, nil)
}

// Rename gives the droplet another name, as the API and the control panel show it; its system keeps its own. All else that was made
// for the machine bears its mark, not its name.
func (d *Driver) Rename(ctx context.Context, h *drivers.Host, name string) error {
	j, err := d.open(ctx, h)
	if err != nil {
		return err
	}
	droplet, err := j.present(ctx, time.Now())
	if err != nil || droplet.Name == name {
		return err
	}
	err = j.act(ctx, "renaming the droplet", func() (*godo.Action, *godo.Response, error) {
		return j.api.DropletActions.Rename(ctx, j.s.Droplet, name)
	})
	if err == nil || !unsure(err) {
		return err
	}
	if droplet, lerr := j.present(ctx, time.Now()); lerr == nil && droplet.Name == name {
		return nil // the answer was lost
	}
	return err
}

// Snapshot keeps a copy of the droplet's disk. It returns the number of the image.
func (d *Driver) Snapshot(ctx context.Context, h *drivers.Host, name string) (string, error) {
	j, err := d.open(ctx, h)
	if err != nil {
		return "", err
	}
	err = j.act(ctx, "taking a snapshot of the droplet", func() (*godo.Action, *godo.Response, error) {
		return j.api.DropletActions.Snapshot(ctx, j.s.Droplet, name)
	})
	if err != nil {
		return "", err
	}
	all, err := pages(ctx, func(ctx context.Context, o *godo.ListOptions) ([]godo.Image, *godo.Response, error) {
		return j.api.Droplets.Snapshots(ctx, j.s.Droplet, o)
	})
	if err != nil {
		return "", fmt.Errorf("looking for the snapshot: %w", explain(err))
	}
	id := 0
	for _, im := range all {
		if im.Name == name {
			id = max(id, im.ID)
		}
	}
	if id == 0 {
		return "", fmt.Errorf("the snapshot %q has not turned up", name)
	}
	return strconv.Itoa(id), nil
}
