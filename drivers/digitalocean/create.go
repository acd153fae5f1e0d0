package digitalocean

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/digitalocean/godo"
	"golang.org/x/crypto/ssh"

	"github.com/getberth/berth/drivers"
)

// Create makes the droplet and what goes with it. Called again, it finds out how far it came, by the record and by the mark, and
// does the rest.
func (d *Driver) Create(ctx context.Context, h *drivers.Host, o drivers.Options) error {
	w, err := parse(o)
	if err != nil {
		return err
	}
	old, err := load(h)
	if err != nil {
		return err
	}
	s, err := plan(h, w, old)
	if err != nil {
		return err
	}
	j, err := d.job(ctx, h, s, o)
	if err != nil {
		return err
	}
	j.fresh = old == nil
	if err := j.resolve(ctx, w); err != nil {
		return err
	}
	if err := j.save(); err != nil { // the mark, before anything bears it
		return err
	}
	for _, step := range []func(context.Context, *wanted) error{j.makeTags, j.makeKey, j.makeFirewall, j.makeVolumes, j.makeDroplet, j.awaitBoot, j.makeReserved, j.joinProject} {
		if err := step(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// Settled names what is as it is: where the account is and the volumes as soon as there is a record, and all that describes the
// droplet as soon as there may be one.
func (d *Driver) Settled(h *drivers.Host) ([]string, error) {
	s, err := load(h)
	if s == nil {
		return nil, err
	}
	if s.Droplet == 0 && s.Posted == nil {
		return []string{"digitalocean-api-url", "digitalocean-volume"}, nil
	}
	var l []string
	for _, f := range d.Flags() {
		switch f.Name {
		case tokenFlag, tokenFlag + "-command", "digitalocean-expose", "digitalocean-allow-from":
		default:
			l = append(l, f.Name)
		}
	}
	return l, nil
}

// plan is the record of what is to be made. As soon as there may be a droplet, it stays what it is; see Settled.
func plan(h *drivers.Host, w *wanted, old *state) (*state, error) {
	if old != nil && (old.Droplet != 0 || old.Posted != nil) {
		old.Expose, old.AllowFrom = w.expose, w.allow
		return old, nil
	}
	s := &state{
		Version: stateVersion, APIURL: w.apiURL, Region: w.region, Size: w.size, Image: w.image, SSHUser: w.sshUser, SSHPort: w.sshPort,
		Keys: w.keys, Expose: w.expose, AllowFrom: w.allow, Volumes: w.volumes, ReservedWanted: w.reserved == "new",
	}
	if !s.ReservedWanted {
		s.ReservedIP = w.reserved
	}
	if old != nil {
		s.Mark, s.Store, s.APIURL, s.Firewall, s.MadeKey, s.Volumes = old.Mark, old.Store, old.APIURL, old.Firewall, old.MadeKey, old.Volumes
		return s, nil
	}
	var err error
	s.Mark = newMark()
	s.Store, err = storeID(h)
	for i := range s.Volumes {
		if v := &s.Volumes[i]; v.GB > 0 {
			v.Name = fmt.Sprintf("%s-%d", s.name(), i)
		}
	}
	return s, err
}

// resolve turns names into IDs.
func (j *job) resolve(ctx context.Context, w *wanted) (err error) {
	if j.s.Droplet != 0 || j.s.Posted != nil {
		return nil
	}
	if j.s.VPC, err = j.findVPC(ctx, w.vpc, w.region); err != nil {
		return err
	}
	if j.s.Project, err = j.findProject(ctx, w.project); err != nil {
		return err
	}
	for i := range j.s.Volumes {
		if v := &j.s.Volumes[i]; v.GB == 0 && v.ID == "" {
			if v.ID, err = j.findVolume(ctx, v.Name, j.s.Region); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxLookups is how often a thing is looked for whose making has no answer.
const maxLookups = 4

// make asks for something once. find tells whether it is there; it is asked before, unless nothing can be, and when the answer to
// post is lost.
func (j *job) make(ctx context.Context, what string, find func() (bool, error), post func() error) error {
	if !j.fresh {
		if found, err := find(); found || err != nil {
			return wrap("looking for the "+what, err)
		}
	}
	err := j.post(ctx, post)
	if err == nil || !unsure(err) {
		return wrap("making the "+what, err)
	}
	j.logf("the answer about the %s was lost (%v): looking for it", what, explain(err))
	for i := range maxLookups {
		if perr := pause(ctx, j.conf.Backoff<<i); perr != nil {
			return wrap("making the "+what, perr)
		}
		if found, ferr := find(); found || ferr != nil {
			return wrap("looking for the "+what, ferr)
		}
	}
	return wrap("making the "+what+", which has not turned up", err)
}

func wrap(act string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", act, explain(err))
}

// maxRefusals is how often a POST may meet the limit of requests. Such a one has not been done, and so may be made again, when the
// transport lets it pass.
const maxRefusals = 8

func (j *job) post(ctx context.Context, post func() error) error {
	for try := 1; ; try++ {
		err := post()
		if status(err) != http.StatusTooManyRequests || try == maxRefusals || ctx.Err() != nil {
			return err
		}
	}
}

// makeTags makes the tags, since a firewall can only be for tags that exist. To make one that exists changes nothing.
func (j *job) makeTags(ctx context.Context, w *wanted) error {
	if !j.s.guarded() {
		return nil // a droplet's own come into being with it
	}
	_, err := once(ctx, j.account, "tag "+j.s.storeTag(), func(ctx context.Context) (struct{}, *godo.Response, error) {
		return struct{}{}, nil, j.makeTag(ctx, j.s.storeTag())
	})
	if err != nil {
		return err
	}
	return j.makeTag(ctx, j.s.tag())
}

func (j *job) makeTag(ctx context.Context, tag string) error {
	find := func() (bool, error) {
		_, _, err := j.api.Tags.Get(ctx, tag)
		return found(err)
	}
	return j.make(ctx, "tag "+tag, find, func() error {
		_, _, err := j.api.Tags.Create(ctx, &godo.TagCreateRequest{Name: tag})
		if code := status(err); code == http.StatusUnprocessableEntity || code == http.StatusConflict {
			if found, ferr := find(); found || ferr != nil {
				return ferr
			}
		}
		return err
	})
}

// found reads the answer to a question for one thing.
func found(err error) (bool, error) {
	if isGone(err) {
		return false, nil
	}
	return err == nil, err
}

// makeKey adds the machine's key to the account: without any, DigitalOcean would send a password by mail.
func (j *job) makeKey(ctx context.Context, _ *wanted) error {
	if len(j.s.Keys) > 0 {
		return nil
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(j.h.Keys.ClientPublic))
	if err != nil {
		return fmt.Errorf("machine %q: its SSH key: %w", j.h.Name, err)
	}
	fp := ssh.FingerprintLegacyMD5(key)
	if j.s.MadeKey != fp {
		j.s.MadeKey = fp
		if err := j.save(); err != nil {
			return err
		}
	}
	find := func() (bool, error) {
		_, _, err := j.api.Keys.GetByFingerprint(ctx, fp)
		return found(err)
	}
	return j.make(ctx, "SSH key", find, func() error {
		_, _, err := j.api.Keys.Create(ctx, &godo.KeyCreateRequest{Name: j.s.name(), PublicKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))})
		return err
	})
}

// makeDroplet makes the droplet, or finds the one that there is.
func (j *job) makeDroplet(ctx context.Context, w *wanted) error {
	if err := j.findDroplet(ctx); err != nil || j.s.Droplet != 0 {
		return err
	}
	data, err := userdata(j.h, w)
	if err != nil {
		return err
	}
	req := j.request(w, data)
	now := time.Now().UTC()
	j.s.Posted = &now
	if err := j.save(); err != nil {
		return err
	}
	var made *godo.Droplet
	err = j.post(ctx, func() (err error) {
		made, _, err = j.api.Droplets.Create(ctx, req)
		return err
	})
	switch {
	case err == nil && made != nil && made.ID > 0:
		j.s.Droplet, j.s.Posted = made.ID, nil
		return j.save()
	case err == nil:
		err = errors.New("the answer has no droplet in it")
	case !unsure(err):
		j.s.Posted = nil
		return errors.Join(wrap("making the droplet", err), j.save())
	}
	j.logf("the answer about the droplet was lost (%v): looking for it by its tag", explain(err))
	if ferr := j.findDroplet(ctx); ferr != nil {
		return ferr
	}
	if j.s.Droplet == 0 {
		return wrap("making the droplet, which has not turned up", err)
	}
	return nil
}

func (j *job) request(w *wanted, data string) *godo.DropletCreateRequest {
	req := &godo.DropletCreateRequest{
		Name: j.h.Name, Region: j.s.Region, Size: j.s.Size, Image: imageRef(j.s.Image),
		Backups: w.backups, BackupPolicy: w.policy, IPv6: w.ipv6, PrivateNetworking: w.private, Monitoring: w.monitoring,
		UserData: data, VPCUUID: j.s.VPC, Tags: append([]string{j.s.tag(), j.s.storeTag()}, w.tags...),
	}
	if j.s.ReservedWanted {
		req.Tags = append(req.Tags, ownsAddress)
	}
	for _, fp := range j.s.Keys {
		req.SSHKeys = append(req.SSHKeys, godo.DropletCreateSSHKey{Fingerprint: fp})
	}
	if len(j.s.Keys) == 0 {
		req.SSHKeys = []godo.DropletCreateSSHKey{{Fingerprint: j.s.MadeKey}}
	}
	for _, v := range j.s.Volumes {
		req.Volumes = append(req.Volumes, godo.DropletCreateVolume{ID: v.ID})
	}
	return req
}

// findDroplet finds the droplet that was asked for. If the answer was lost, it may turn up late; if it was asked for twice, as it
// turned up later still, only the first stays.
func (j *job) findDroplet(ctx context.Context) error {
	if j.fresh && j.s.Posted == nil {
		return nil
	}
	if j.s.Droplet != 0 {
		d, err := j.current(ctx, time.Now())
		if err != nil || d != nil {
			return err
		}
		j.logf("droplet %d is gone: making another one", j.s.Droplet)
		j.s.Droplet, j.s.PublicIP, j.s.PrivateIP, j.s.IPv6 = 0, "", "", ""
	}
	own, err := j.unsettled(ctx)
	if err != nil || len(own) == 0 {
		return err
	}
	for _, d := range own[1:] {
		j.logf("droplet %d was made twice: removing the second, %d", own[0].ID, d.ID)
		if err := j.deleteDroplet(ctx, d.ID); err != nil {
			return err
		}
	}
	j.s.Droplet, j.s.Posted = own[0].ID, nil
	return j.save()
}

// unsettled are the droplets that bear the mark; as long as one may still turn up, and none has, it waits.
func (j *job) unsettled(ctx context.Context) ([]godo.Droplet, error) {
	for {
		all, err := j.droplets(ctx, j.s.Store, time.Now())
		if err != nil {
			return nil, fmt.Errorf("looking for the droplet of %q: %w", j.h.Name, explain(err))
		}
		own := j.s.own(all)
		if len(own) > 0 || j.s.Posted == nil || time.Since(*j.s.Posted).Abs() > j.conf.Settle { // a clock may have been put back
			return own, nil
		}
	}
}

// awaitBoot waits until the droplet runs and has addresses, and turns it on if it is off.
func (j *job) awaitBoot(ctx context.Context, _ *wanted) error {
	started := false
	err := j.await(ctx, j.conf.BootTimeout, "the droplet runs", func(d *godo.Droplet) (bool, error) {
		switch {
		case d == nil && j.s.PublicIP != "":
			return false, fmt.Errorf("droplet %d is gone", j.s.Droplet)
		case d == nil:
			return false, nil // listings may lag behind
		case d.Status == "off" && !d.Locked && !started:
			_, _, err := j.api.DropletActions.PowerOn(ctx, d.ID)
			started = !busy(err)
			return false, wrap("turning the droplet on", passedOver(err))
		case d.Status == "archive":
			return false, fmt.Errorf("droplet %d is archived", d.ID)
		}
		return d.Status == "active" && j.addresses(d), nil
	})
	if err != nil {
		return err
	}
	return j.save()
}

// addresses records where the droplet is; it reports whether it is anywhere yet.
func (j *job) addresses(d *godo.Droplet) bool {
	ip, err := d.PublicIPv4()
	if err != nil || ip == "" {
		return false
	}
	j.s.PublicIP = ip
	j.s.PrivateIP, _ = d.PrivateIPv4()
	j.s.IPv6, _ = d.PublicIPv6()
	return true
}

// passedOver is refusedOnly for what is tried again at the next look if something else is done to the droplet just now.
func passedOver(err error) error {
	if busy(err) {
		return nil
	}
	return refusedOnly(err)
}

// refusedOnly keeps an error of which it is certain that nothing was done; of others, looking at the droplet tells.
func refusedOnly(err error) error {
	if unsure(err) {
		return nil
	}
	return err
}
