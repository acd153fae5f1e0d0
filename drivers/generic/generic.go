// Package generic adopts hosts that exist already and can be reached over SSH. It never wipes nor renames one, and does not turn
// any on or off.
package generic

import (
	"context"
	"errors"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/sshutil"
)

// Name of the driver.
const Name = "generic"

// Config is what the driver needs to know of the computer it runs on.
type Config struct {
	Home       string   // the user's folder: its .ssh holds keys; "" when there is none
	KnownHosts []string // files in which the user's ssh has pinned host keys
}

// Driver implements drivers.Driver.
type Driver struct {
	config Config
	// pins are the host keys that this process has settled, by address: what the user was shown is what is recorded.
	pins map[string]pin
}

var (
	_ drivers.Adopter   = (*Driver)(nil)
	_ drivers.Killer    = (*Driver)(nil)
	_ drivers.Restarter = (*Driver)(nil)
	_ drivers.Renamer   = (*Driver)(nil)
)

// New makes the driver, for the creation of one machine or any use of those that there are.
func New(c Config) *Driver { return &Driver{config: c, pins: map[string]pin{}} }

// stateVersion is the version of state that this driver writes. Records of the first berths have none, and are otherwise the same.
const stateVersion = 1

// state is the driver's record of a machine.
type state struct {
	Version    int           `json:"version"`
	Address    string        `json:"address"` // empty once the machine was let go
	SSHUser    string        `json:"sshUser"`
	SSHPort    int           `json:"sshPort"`
	EnginePort int           `json:"enginePort"`
	HostKeys   []string      `json:"hostKeys"`
	KeyFile    string        `json:"keyFile,omitempty"` // in the machine's folder; empty: the user's own keys
	Jump       *drivers.Jump `json:"jump,omitempty"`
	SSHOnly    bool          `json:"sshOnly,omitempty"` // the engine listens on no port
}

// Why there is no host.
var (
	errNotAdopted = errors.New("the host was not adopted")
	errLetGo      = errors.New("the host was let go")
)

func load(h *drivers.Host) (state, error) {
	var s state
	there, err := h.Recorded(Name, stateVersion, &s)
	switch {
	case err != nil:
		return s, err
	case !there:
		return s, errNotAdopted
	case s.Address == "":
		return s, errLetGo
	}
	return s, nil
}

func (s state) endpoint() drivers.Endpoint {
	e := drivers.Endpoint{
		Address: s.Address, EnginePort: s.EnginePort, ListenPort: s.EnginePort,
		SSHHost: s.Address, SSHPort: s.SSHPort, SSHUser: s.SSHUser,
		KeyFile: s.KeyFile, UserKeys: s.KeyFile == "", Jump: s.Jump,
	}
	if s.SSHOnly {
		e.SSHOnly, e.EnginePort, e.ListenPort = true, 0, 0
	}
	if len(s.HostKeys) > 0 {
		e.HostKey, e.HostKeys = s.HostKeys[0], s.HostKeys[1:]
	}
	return e
}

// Check implements drivers.Driver: the options make sense, and the host's key is known or may be taken as it comes.
func (d *Driver) Check(ctx context.Context, h *drivers.Host, o drivers.Options) error {
	_, err := d.Preview(ctx, h, o)
	return err
}

// Preview implements drivers.Adopter.
func (d *Driver) Preview(ctx context.Context, h *drivers.Host, o drivers.Options) (drivers.Endpoint, error) {
	s, key, err := d.settle(ctx, h, o)
	if err != nil {
		return drivers.Endpoint{}, err
	}
	e := s.endpoint()
	if key != nil {
		e.KeyFile = key.path
	}
	return e, nil
}

// Create implements drivers.Driver. It records how to reach the host, and copies the key that was given, so that the store can be
// moved; the host is not touched.
func (d *Driver) Create(ctx context.Context, h *drivers.Host, o drivers.Options) error {
	s, key, err := d.settle(ctx, h, o)
	if err != nil {
		return err
	}
	if err := h.Record(s); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return key.copyTo(h.Dir)
}

// settle turns options into the record. A host key that was recorded earlier stays: an interrupted create that goes on trusts
// nobody anew.
func (d *Driver) settle(ctx context.Context, h *drivers.Host, o drivers.Options) (state, *userKey, error) {
	s, key, err := d.parse(o)
	if err != nil {
		return s, nil, err
	}
	if before, err := load(h); err == nil && before.Address == s.Address && before.SSHPort == s.SSHPort && o.String(flagHostKey) == "" {
		d.keep(before)
	}
	if s.Jump != nil {
		p, err := d.pin(ctx, h, d.jumpEndpoint(s, key), flagJumpHostKey, o)
		if err != nil {
			return s, nil, err
		}
		s.Jump.HostKeys = p.keys
	}
	p, err := d.pin(ctx, h, d.ssh(s, key), flagHostKey, o)
	s.HostKeys = p.keys
	return s, key, err
}

// Remove implements drivers.Driver: it lets the host go, and does nothing to it.
func (d *Driver) Remove(_ context.Context, h *drivers.Host) error {
	if len(h.State) == 0 {
		return nil
	}
	if err := removeKey(h.Dir); err != nil {
		return err
	}
	return h.Record(state{Version: stateVersion})
}

// Rename implements drivers.Renamer: the host itself keeps the name it has.
func (d *Driver) Rename(context.Context, *drivers.Host, string) error { return nil }

// Endpoint implements drivers.Driver.
func (d *Driver) Endpoint(h *drivers.Host) (drivers.Endpoint, error) {
	s, err := load(h)
	if err != nil {
		return drivers.Endpoint{}, err
	}
	return s.endpoint(), nil
}

// ssh is how berth itself logs in to the host; keys of the state's file are below dir.
func (d *Driver) ssh(s state, key *userKey) sshutil.Endpoint {
	e := sshutil.Endpoint{Host: s.Address, Port: s.SSHPort, User: s.SSHUser, HostKeys: s.HostKeys, Agent: true, KeyPaths: d.keyPaths(key)}
	if s.Jump != nil {
		j := d.jumpEndpoint(s, key)
		e.Jump = &j
	}
	return e
}

func (d *Driver) jumpEndpoint(s state, key *userKey) sshutil.Endpoint {
	return sshutil.Endpoint{
		Host: s.Jump.Host, Port: s.Jump.Port, User: s.Jump.User, HostKeys: s.Jump.HostKeys, Agent: true, KeyPaths: d.keyPaths(key),
	}
}

func (d *Driver) keyPaths(key *userKey) []string {
	if key != nil {
		return []string{key.path}
	}
	return sshutil.UserKeys(d.config.Home)
}
