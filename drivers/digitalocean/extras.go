package digitalocean

import (
	"context"
	"fmt"
	"net/http"

	"github.com/digitalocean/godo"
)

// makeVolumes makes the volumes that are wanted anew. They are attached as the droplet is made.
func (j *job) makeVolumes(ctx context.Context, _ *wanted) error {
	for i := range j.s.Volumes {
		v := &j.s.Volumes[i]
		if v.ID != "" {
			continue
		}
		find := func() (bool, error) {
			found, err := j.ownVolume(ctx, v.Name)
			if found != nil {
				v.ID = found.ID
			}
			return found != nil, err
		}
		err := j.make(ctx, "volume "+v.Name, find, func() error {
			made, _, err := j.api.Storage.CreateVolume(ctx, &godo.VolumeCreateRequest{
				Region: j.s.Region, Name: v.Name, SizeGigaBytes: v.GB, Description: "of the machine " + j.h.Name, FilesystemType: "ext4",
				Tags: []string{j.s.tag(), j.s.storeTag()},
			})
			if err == nil && made != nil {
				v.ID = made.ID
			}
			return err
		})
		if err != nil {
			return err
		}
		if err := j.save(); err != nil {
			return err
		}
	}
	return nil
}

// ownVolume finds a volume by the name that we gave it; nil if there is none.
func (j *job) ownVolume(ctx context.Context, name string) (*godo.Volume, error) {
	all, _, err := j.api.Storage.ListVolumes(ctx, &godo.ListVolumeParams{Region: j.s.Region, Name: name})
	if err != nil {
		return nil, err
	}
	for _, v := range all {
		if v.Name == name {
			return &v, nil
		}
	}
	return nil, nil
}

// makeReserved gives the droplet its reserved IP. One that we make is made for this droplet, by which it can be found.
func (j *job) makeReserved(ctx context.Context, _ *wanted) error {
	switch {
	case j.s.ReservedWanted && j.s.ReservedIP == "":
		return j.newReserved(ctx)
	case j.s.ReservedIP != "" && !j.s.ReservedMade:
		return j.assignReserved(ctx)
	}
	return nil
}

func (j *job) newReserved(ctx context.Context) error {
	find := func() (bool, error) {
		ip, err := j.reservedOf(ctx, j.s.Droplet)
		if ip != nil {
			j.s.ReservedIP = ip.IP
		}
		return ip != nil, err
	}
	err := j.make(ctx, "reserved IP", find, func() error {
		ip, _, err := j.api.ReservedIPs.Create(ctx, &godo.ReservedIPCreateRequest{DropletID: j.s.Droplet})
		if err == nil && ip != nil {
			j.s.ReservedIP = ip.IP
		}
		return err
	})
	if err != nil {
		return err
	}
	j.s.ReservedMade = true
	if err := j.save(); err != nil {
		return err
	}
	return j.awaitReserved(ctx)
}

// reservedOf is the reserved IP that a droplet has; nil if none.
func (a *account) reservedOf(ctx context.Context, droplet int) (*godo.ReservedIP, error) {
	all, err := pages(ctx, a.api.ReservedIPs.List)
	if err != nil {
		return nil, err
	}
	for _, ip := range all {
		if ip.Droplet != nil && ip.Droplet.ID == droplet {
			return &ip, nil
		}
	}
	return nil, nil
}

func (j *job) assignReserved(ctx context.Context) error {
	ip, _, err := j.api.ReservedIPs.Get(ctx, j.s.ReservedIP)
	if err != nil {
		return wrap("asking for the reserved IP "+j.s.ReservedIP, err)
	}
	switch {
	case ip.Droplet != nil && ip.Droplet.ID == j.s.Droplet:
		return nil
	case ip.Droplet != nil:
		return fmt.Errorf("the reserved IP %s belongs to droplet %d", j.s.ReservedIP, ip.Droplet.ID)
	}
	err = j.post(ctx, func() error {
		_, _, err := j.api.ReservedIPActions.Assign(ctx, j.s.ReservedIP, j.s.Droplet)
		return err
	})
	if err := refusedOnly(err); err != nil {
		return wrap("assigning the reserved IP "+j.s.ReservedIP, err)
	}
	return j.awaitReserved(ctx)
}

// awaitReserved waits until the droplet has its reserved IP.
func (j *job) awaitReserved(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, j.conf.ActionTimeout, fmt.Errorf("it has taken more than %s", j.conf.ActionTimeout))
	defer cancel()
	for {
		ip, _, err := j.api.ReservedIPs.Get(ctx, j.s.ReservedIP)
		if err == nil && ip.Droplet != nil && ip.Droplet.ID == j.s.Droplet {
			return nil
		}
		if err == nil {
			err = pause(ctx, j.conf.Poll)
		}
		if err != nil {
			return wrap("waiting for the reserved IP "+j.s.ReservedIP, err)
		}
	}
}

// joinProject puts the droplet into its project, where it may be already.
func (j *job) joinProject(ctx context.Context, _ *wanted) error {
	if j.s.Project == "" {
		return nil
	}
	join := func() error {
		_, _, err := j.api.Projects.AssignResources(ctx, j.s.Project, fmt.Sprintf("do:droplet:%d", j.s.Droplet))
		return err
	}
	err := j.post(ctx, join)
	if unsure(err) { // to be where one is already changes nothing
		err = j.post(ctx, join)
	}
	if status(err) == http.StatusNotFound {
		return fmt.Errorf("the project %s is gone", j.s.Project)
	}
	return wrap("putting the droplet into its project", err)
}
