package digitalocean

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/digitalocean/godo"

	"github.com/getberth/berth/drivers"
)

// Remove deletes all that bears the machine's mark, and returns when the API does not know of it any more. What was there before
// the machine, be it a volume or a reserved IP, stays.
func (d *Driver) Remove(ctx context.Context, h *drivers.Host) error {
	s, err := load(h)
	if err != nil || s == nil {
		return err
	}
	j, err := d.job(ctx, h, s, nil)
	if err != nil {
		return err
	}
	own, err := j.all(ctx)
	if err != nil {
		return err
	}
	if err := j.recordReserved(ctx, own); err != nil {
		return err
	}
	for _, id := range own {
		if err := j.deleteDroplet(ctx, id); err != nil {
			return err
		}
	}
	if j.s.Posted != nil { // none came of it, or it is deleted
		j.s.Posted = nil
		if err := j.save(); err != nil {
			return err
		}
	}
	return errors.Join(j.deleteReserved(ctx), j.deleteVolumes(ctx), j.deleteFirewall(ctx), j.deleteKey(ctx), j.deleteTag(ctx))
}

// all are the IDs of the machine's droplets.
func (j *job) all(ctx context.Context) (ids []int, err error) {
	own, err := j.unsettled(ctx)
	if err != nil {
		return nil, err
	}
	known := false
	for _, d := range own {
		ids = append(ids, d.ID)
		known = known || d.ID == j.s.Droplet
	}
	if j.s.Droplet != 0 && !known {
		ids = append(ids, j.s.Droplet) // listings may lag behind, and tags can be taken off
	}
	return ids, nil
}

// recordReserved finds the reserved IP that was to be made, as long as there is a droplet by which it can be found.
func (j *job) recordReserved(ctx context.Context, own []int) error {
	if !j.s.ReservedWanted || j.s.ReservedIP != "" {
		return nil
	}
	for _, id := range own {
		ip, err := j.reservedOf(ctx, id)
		if err != nil {
			return wrap("looking for the reserved IP", err)
		}
		if ip != nil {
			j.s.ReservedIP, j.s.ReservedMade = ip.IP, true
			return j.save()
		}
	}
	return nil
}

// deleteDroplet deletes a droplet, and waits until it is gone.
func (a *account) deleteDroplet(ctx context.Context, id int) error {
	return a.delete(ctx, fmt.Sprintf("droplet %d", id),
		func() error { _, err := a.api.Droplets.Delete(ctx, id); return err },
		func() error { _, _, err := a.api.Droplets.Get(ctx, id); return err })
}

// delete asks for something to be deleted until the API does not find it any more. What is busy is asked for again.
func (a *account) delete(ctx context.Context, what string, del, get func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, a.conf.ActionTimeout, fmt.Errorf("it has taken more than %s", a.conf.ActionTimeout))
	defer cancel()
	asked := false
	for {
		if !asked {
			err := del()
			switch {
			case isGone(err):
				return nil
			case err == nil:
				asked = true
			case !busy(err):
				return wrap("removing the "+what, err)
			}
		}
		if err := get(); isGone(err) {
			return nil
		} else if err != nil {
			return wrap("seeing whether the "+what+" is gone", err)
		}
		if err := pause(ctx, a.conf.Poll); err != nil {
			return wrap("removing the "+what, err)
		}
	}
}

// busy tells a refusal that passes: something else is done to the thing just now.
func busy(err error) bool {
	switch status(err) {
	case http.StatusConflict, http.StatusLocked, http.StatusTooManyRequests, http.StatusPreconditionFailed:
		return true
	case http.StatusUnprocessableEntity:
		text := strings.ToLower(err.Error())
		return strings.Contains(text, "pending") || strings.Contains(text, "attached") || strings.Contains(text, "event")
	}
	return false
}

func (j *job) deleteReserved(ctx context.Context) error {
	if !j.s.ReservedMade || j.s.ReservedIP == "" {
		return nil
	}
	return j.account.deleteReserved(ctx, j.s.ReservedIP)
}

// deleteReserved deletes a reserved IP, which may have to be taken from its droplet first.
func (a *account) deleteReserved(ctx context.Context, ip string) error {
	return a.delete(ctx, "reserved IP "+ip, func() error {
		_, err := a.api.ReservedIPs.Delete(ctx, ip)
		if code := status(err); code != http.StatusConflict && code != http.StatusUnprocessableEntity {
			return err
		}
		if _, _, uerr := a.api.ReservedIPActions.Unassign(ctx, ip); uerr != nil && !busy(uerr) {
			return err
		}
		_, err = a.api.ReservedIPs.Delete(ctx, ip)
		return err
	}, func() error { _, _, err := a.api.ReservedIPs.Get(ctx, ip); return err })
}

func (j *job) deleteVolumes(ctx context.Context) error {
	for i := range j.s.Volumes {
		v := &j.s.Volumes[i]
		if v.GB == 0 {
			continue
		}
		if v.ID == "" {
			found, err := j.ownVolume(ctx, v.Name)
			if err != nil {
				return wrap("looking for the volume "+v.Name, err)
			}
			if found == nil {
				continue
			}
			v.ID = found.ID
		}
		if err := j.deleteVolume(ctx, v.ID, v.Name); err != nil {
			return err
		}
	}
	return nil
}

func (a *account) deleteVolume(ctx context.Context, id, name string) error {
	return a.delete(ctx, "volume "+name,
		func() error { _, err := a.api.Storage.DeleteVolume(ctx, id); return err },
		func() error { _, _, err := a.api.Storage.GetVolume(ctx, id); return err })
}

func (j *job) deleteFirewall(ctx context.Context) error {
	if j.fresh {
		return nil
	}
	if j.s.Firewall == "" {
		f, err := j.findFirewall(ctx)
		if err != nil {
			return wrap("looking for the firewall", err)
		}
		if f == nil {
			return nil
		}
		j.s.Firewall = f.ID
	}
	return j.account.deleteFirewall(ctx, j.s.Firewall)
}

func (a *account) deleteFirewall(ctx context.Context, id string) error {
	return a.delete(ctx, "firewall "+id,
		func() error { _, err := a.api.Firewalls.Delete(ctx, id); return err },
		func() error { _, _, err := a.api.Firewalls.Get(ctx, id); return err })
}

// deleteKey takes the machine's key out of the account, if it is the one that we put there.
func (j *job) deleteKey(ctx context.Context) error {
	if j.s.MadeKey == "" {
		return nil
	}
	k, _, err := j.api.Keys.GetByFingerprint(ctx, j.s.MadeKey)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return wrap("asking for the SSH key", err)
	}
	if k.Name != j.s.name() {
		return nil
	}
	_, err = j.api.Keys.DeleteByID(ctx, k.ID)
	if isGone(err) {
		return nil
	}
	return wrap("removing the SSH key", err)
}

func (j *job) deleteTag(ctx context.Context) error {
	_, err := j.api.Tags.Delete(ctx, j.s.tag())
	if isGone(err) {
		return nil
	}
	return wrap("removing the tag "+j.s.tag(), err)
}

// age words how old a droplet is.
func age(d godo.Droplet) string {
	t, err := time.Parse(time.RFC3339, d.Created)
	if err != nil {
		return ""
	}
	return "made " + t.UTC().Format("2006-01-02 15:04 MST")
}
