package digitalocean

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/digitalocean/godo"

	"github.com/getberth/berth/drivers"
)

// Start turns the droplet on.
func (d *Driver) Start(ctx context.Context, h *drivers.Host) error {
	j, err := d.open(ctx, h)
	if err != nil {
		return err
	}
	if j.s.Droplet == 0 {
		return fmt.Errorf("machine %q has no droplet yet", h.Name)
	}
	if _, err := j.present(ctx, time.Now()); err != nil {
		return err
	}
	return j.awaitBoot(ctx, nil)
}

// present is current, but that the droplet is gone is an error.
func (j *job) present(ctx context.Context, after time.Time) (*godo.Droplet, error) {
	d, err := j.current(ctx, after)
	if err == nil && d == nil {
		err = fmt.Errorf("machine %q: droplet %d is gone", j.h.Name, j.s.Droplet)
	}
	return d, err
}

// Stop asks the droplet to shut down, and cuts its power when it takes too long.
func (d *Driver) Stop(ctx context.Context, h *drivers.Host) error {
	j, err := d.open(ctx, h)
	if err != nil {
		return err
	}
	err = j.end(ctx, j.conf.StopTimeout, j.api.DropletActions.Shutdown)
	if err == nil || ctx.Err() != nil || !errors.Is(err, errTooLong) {
		return err
	}
	j.logf("it has not shut down within %s: its power is cut", j.conf.StopTimeout)
	return j.end(ctx, j.conf.ActionTimeout, j.api.DropletActions.PowerOff)
}

// Kill cuts the droplet's power.
func (d *Driver) Kill(ctx context.Context, h *drivers.Host) error {
	j, err := d.open(ctx, h)
	if err != nil {
		return err
	}
	return j.end(ctx, j.conf.ActionTimeout, j.api.DropletActions.PowerOff)
}

type action func(context.Context, int) (*godo.Action, *godo.Response, error)

var errTooLong = errors.New("it takes too long")

// end does what ends the droplet, and waits until it is off. An answer that is lost does no harm: what was asked for shows.
func (j *job) end(ctx context.Context, limit time.Duration, act action) error {
	asked := false
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: more than %s", errTooLong, limit))
	defer cancel()
	return j.await(ctx, limit+time.Second, "the droplet is off", func(d *godo.Droplet) (bool, error) {
		switch {
		case d == nil:
			return false, fmt.Errorf("droplet %d is gone", j.s.Droplet)
		case d.Status == "off":
			return true, nil
		case asked:
			return false, nil
		}
		_, _, err := act(ctx, d.ID)
		asked = !busy(err)
		return false, wrap("ending the droplet", passedOver(err))
	})
}

// Restart reboots a droplet that runs, and turns one on that does not.
func (d *Driver) Restart(ctx context.Context, h *drivers.Host) error {
	j, err := d.open(ctx, h)
	if err != nil {
		return err
	}
	droplet, err := j.present(ctx, time.Now())
	if err != nil {
		return err
	}
	if droplet.Status == "off" {
		return j.awaitBoot(ctx, nil)
	}
	if err := j.act(ctx, "rebooting the droplet", func() (*godo.Action, *godo.Response, error) {
		return j.api.DropletActions.Reboot(ctx, j.s.Droplet)
	}); err != nil {
		return err
	}
	return j.awaitBoot(ctx, nil)
}

// act starts an action, as soon as nothing else is done to the droplet, and waits until it is over.
func (j *job) act(ctx context.Context, what string, start func() (*godo.Action, *godo.Response, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, j.conf.ActionTimeout, fmt.Errorf("it has taken more than %s", j.conf.ActionTimeout))
	defer cancel()
	a, _, err := start()
	for busy(err) && pause(ctx, j.conf.Poll) == nil {
		a, _, err = start()
	}
	for err == nil && a != nil && a.Status == "in-progress" {
		if err = pause(ctx, j.conf.Poll); err == nil {
			a, _, err = j.api.DropletActions.Get(ctx, j.s.Droplet, a.ID)
		}
	}
	if err == nil && (a == nil || a.Status != "completed") {
		err = errors.New("DigitalOcean says that it has failed")
	}
	return wrap(what, err)
}

// State asks the API what the droplet is doing. All machines of a store that are asked for at about the same time share one request.
func (d *Driver) State(ctx context.Context, h *drivers.Host) (drivers.State, error) {
	s, err := load(h)
	if err != nil || s == nil {
		return stateIf(err, drivers.NotFound), err
	}
	j, err := d.job(ctx, h, s, nil)
	if err != nil {
		return drivers.Error, err
	}
	droplet, err := j.current(ctx, time.Now().Add(-j.conf.Poll))
	switch {
	case err != nil:
		return drivers.Error, err
	case droplet == nil:
		return drivers.NotFound, nil
	}
	return stateOf(droplet), nil
}

func stateIf(err error, s drivers.State) drivers.State {
	if err != nil {
		return drivers.Error
	}
	return s
}

// stateOf translates the API's words for a droplet: new, active, off and archive.
func stateOf(d *godo.Droplet) drivers.State {
	switch d.Status {
	case "active":
		return drivers.Running
	case "new":
		return drivers.Starting
	case "off":
		return drivers.Stopped
	case "archive":
		return drivers.Saved
	}
	return drivers.Error
}

// Locate asks where the droplet is now. What is new is in h.State afterwards.
func (d *Driver) Locate(ctx context.Context, h *drivers.Host) (drivers.Endpoint, error) {
	j, err := d.open(ctx, h)
	if err != nil {
		return drivers.Endpoint{}, err
	}
	droplet, err := j.present(ctx, time.Now().Add(-j.conf.Poll))
	if err != nil {
		return drivers.Endpoint{}, err
	}
	j.addresses(droplet)
	if h.State, err = json.Marshal(j.s); err != nil {
		return drivers.Endpoint{}, err
	}
	return d.Endpoint(h)
}

// Endpoint tells how to reach the droplet.
func (d *Driver) Endpoint(h *drivers.Host) (drivers.Endpoint, error) {
	s, err := mustLoad(h)
	if err != nil {
		return drivers.Endpoint{}, err
	}
	if s.PublicIP == "" {
		return drivers.Endpoint{}, fmt.Errorf("machine %q has no address yet", h.Name)
	}
	e := drivers.Endpoint{
		Address: s.PublicIP, EnginePort: enginePort, SSHHost: s.PublicIP, SSHPort: s.SSHPort, SSHUser: s.SSHUser,
		HostKey: h.Keys.HostPublic, HostKeyExposed: true,
	}
	if s.Expose == exposeSSH {
		e.SSHOnly, e.EnginePort = true, 0
	}
	if s.ReservedIP != "" {
		e.Address, e.SSHHost = s.ReservedIP, s.ReservedIP
	}
	for _, a := range []string{s.PublicIP, s.PrivateIP, s.IPv6, s.ReservedIP} {
		if a != "" && a != e.Address {
			e.SANs = append(e.SANs, a)
		}
	}
	return e, nil
}

// Diagnose tells what the API knows of a droplet that does not answer.
func (d *Driver) Diagnose(ctx context.Context, h *drivers.Host) (string, error) {
	j, err := d.open(ctx, h)
	if err != nil {
		return "", err
	}
	droplet, err := j.current(ctx, time.Now())
	if err != nil {
		return "", err
	}
	if droplet == nil {
		return fmt.Sprintf("droplet %d is gone", j.s.Droplet), nil
	}
	var w strings.Builder
	fmt.Fprintf(&w, "droplet %d (%s, %s) is %s, %s", droplet.ID, j.s.Size, j.s.Region, printable(droplet.Status), age(*droplet))
	switch {
	case !j.s.guarded():
	case len(j.s.Admitted) > 0:
		fmt.Fprintf(&w, "\nits firewall admits %s to %s", strings.Join(j.s.Admitted, ", "), j.s.guards())
	default:
		w.WriteString("\nits firewall admits everybody to SSH, and nobody to the engine")
	}
	fmt.Fprintf(&w, "\nits console: https://cloud.digitalocean.com/droplets/%d/console", droplet.ID)
	return w.String(), nil
}

// Warnings tells what is unusual about a droplet that runs.
func (d *Driver) Warnings(ctx context.Context, h *drivers.Host) ([]string, error) {
	j, err := d.open(ctx, h)
	if err != nil {
		return nil, err
	}
	droplet, err := j.current(ctx, time.Now().Add(-j.conf.Poll))
	if err != nil || droplet == nil {
		return nil, err
	}
	if ip, err := droplet.PublicIPv4(); err == nil && ip != "" && ip != j.s.PublicIP {
		return []string{fmt.Sprintf("its address is %s now, not %s; `berth restart` takes note of it", printable(ip), j.s.PublicIP)}, nil
	}
	return nil, nil
}
