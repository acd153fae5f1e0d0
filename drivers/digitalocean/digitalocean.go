// Package digitalocean makes machines that are droplets of DigitalOcean, or of anything that speaks its API v2.
//
// All that is made for one machine bears a random mark, which is on the disk before anything is asked of the API: the droplet and
// its volumes as a tag (berth:MARK), the SSH key and the firewall in their names. A second tag (berth-store:ID) is that of the
// store. So whatever is cut off, and whatever answer is lost, can be found again by what bears the mark.
//
// A POST is never repeated unless it is certain that it was not done: the API has said so, or there was no connection. GET and
// DELETE are, with pauses; see transport.
package digitalocean

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/getberth/berth/drivers"
)

// Name of the driver.
const Name = "digitalocean"

// DefaultURL is where the API is.
const DefaultURL = "https://api.digitalocean.com/"

// Config is what a test changes. The zero value is right for the real API.
type Config struct {
	// Transport carries the requests; nil is a copy of http.DefaultTransport.
	Transport http.RoundTripper
	// Poll is the least time between two looks at the droplets of a store.
	Poll time.Duration
	// Backoff is the first pause before a request is repeated; the later ones are longer.
	Backoff time.Duration
	// Try is what one request may take; the API answers within a second or two.
	Try time.Duration
	// Settle is for how long a droplet may turn up whose making was asked for, when the answer was lost.
	Settle time.Duration
	// StopTimeout is what an orderly end may take before the power is cut.
	StopTimeout time.Duration
	// BootTimeout is what the API may take to make a droplet that runs, and ActionTimeout what it may take for anything else.
	BootTimeout, ActionTimeout time.Duration
	// PerSecond is how many requests an account takes in the long run.
	PerSecond float64
}

func (c Config) withDefaults() Config {
	for p, v := range map[*time.Duration]time.Duration{
		&c.Poll: 3 * time.Second, &c.Backoff: 500 * time.Millisecond, &c.Settle: 30 * time.Second, &c.Try: time.Minute, &c.StopTimeout: 2 * time.Minute,
		&c.BootTimeout: 10 * time.Minute, &c.ActionTimeout: 10 * time.Minute,
	} {
		if *p == 0 {
			*p = v
		}
	}
	if c.PerSecond == 0 {
		c.PerSecond = perSecond
	}
	return c
}

// Driver makes droplets. One Driver serves many machines at the same time: they share the account's limits of requests, and one
// look at the API serves all that wait.
type Driver struct {
	conf Config

	mu       sync.Mutex              // guards the rest
	accounts map[accountKey]*account // by where they are and the token
}

var (
	_ drivers.Driver      = (*Driver)(nil)
	_ drivers.Killer      = (*Driver)(nil)
	_ drivers.Restarter   = (*Driver)(nil)
	_ drivers.Diagnoser   = (*Driver)(nil)
	_ drivers.Warner      = (*Driver)(nil)
	_ drivers.Greeter     = (*Driver)(nil)
	_ drivers.Collector   = (*Driver)(nil)
	_ drivers.Cataloger   = (*Driver)(nil)
	_ drivers.Resizer     = (*Driver)(nil)
	_ drivers.Snapshotter = (*Driver)(nil)
	_ drivers.Settler     = (*Driver)(nil)
	_ drivers.Renamer     = (*Driver)(nil)
)

// New returns the driver.
func New(conf Config) *Driver {
	return &Driver{conf: conf.withDefaults(), accounts: map[accountKey]*account{}}
}

// stateVersion is the version of state that this driver writes.
const stateVersion = 1

// state is the driver's record of a machine. It has no secret.
type state struct {
	Version int    `json:"version"`
	APIURL  string `json:"apiURL,omitempty"` // empty: DefaultURL
	Mark    string `json:"mark"`             // 32 hexadecimal digits, of this machine alone
	Store   string `json:"store"`            // the store's
	Region  string `json:"region"`
	Size    string `json:"size"`
	Image   string `json:"image"`
	SSHUser string `json:"sshUser"`
	SSHPort int    `json:"sshPort"`

	// Keys are the fingerprints of the account's keys that were asked for. Without any, one is made, which MadeKey is then.
	Keys    []string `json:"keys,omitempty"`
	MadeKey string   `json:"madeKey,omitempty"`
	Project string   `json:"project,omitempty"`
	VPC     string   `json:"vpc,omitempty"`

	Expose    string   `json:"expose"`
	AllowFrom []string `json:"allowFrom,omitempty"` // what the user wants to be let in
	Admitted  []string `json:"admitted,omitempty"`  // what is let in; with neither, SSH is open to all until we have been greeted
	Firewall  string   `json:"firewall,omitempty"`  // its id

	Volumes []volume `json:"volumes,omitempty"`

	// Posted is when a droplet was last asked for, as long as it is not known whether there is one.
	Posted  *time.Time `json:"posted,omitempty"`
	Droplet int        `json:"droplet,omitempty"` // its id

	PublicIP   string `json:"publicIP,omitempty"`
	PrivateIP  string `json:"privateIP,omitempty"` // eth1's
	IPv6       string `json:"ipv6,omitempty"`
	ReservedIP string `json:"reservedIP,omitempty"`
	// ReservedMade tells that ReservedIP is ours to delete, and ReservedWanted that one is to be made.
	ReservedMade   bool `json:"reservedMade,omitempty"`
	ReservedWanted bool `json:"reservedWanted,omitempty"`
}

// volume is a disk beside the droplet's own.
type volume struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name"`
	GB   int64  `json:"gb,omitempty"` // of one that we make; 0 is one that was there
}

func (s *state) tag() string      { return "berth:" + s.Mark }
func (s *state) storeTag() string { return storeTag(s.Store) }

// name is that of the key and the firewall; a volume's has a number behind it. Letters, digits and dashes are allowed in all of
// them, and a volume's may have 64 characters.
func (s *state) name() string { return namePrefix(s.Store) + s.Mark }

// ownsAddress is the tag of a droplet whose reserved IP was made with it: an address can bear no mark itself.
const ownsAddress = "berth-owns:reserved-ip"

func storeTag(store string) string   { return "berth-store:" + store }
func namePrefix(store string) string { return "berth-" + store + "-" }

// newMark is 128 random bits.
func newMark() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// load reads a machine's state; nil when it has none.
func load(h *drivers.Host) (*state, error) {
	var s state
	if there, err := h.Recorded("digitalocean", stateVersion, &s); !there {
		return nil, err
	}
	if s.Mark == "" || s.Store == "" {
		return nil, fmt.Errorf("machine %q: the digitalocean driver's record has no mark", h.Name)
	}
	return &s, nil
}

// mustLoad is load for what needs a machine.
func mustLoad(h *drivers.Host) (*state, error) {
	s, err := load(h)
	if err == nil && s == nil {
		err = fmt.Errorf("machine %q has not been created yet", h.Name)
	}
	return s, err
}

// job is one machine that is worked on.
type job struct {
	*account
	h *drivers.Host
	s *state
	// fresh tells that nothing was ever asked of the API for this machine: there is nothing to look for.
	fresh bool
}

// open is a machine that exists, with its account.
func (d *Driver) open(ctx context.Context, h *drivers.Host) (*job, error) {
	s, err := mustLoad(h)
	if err != nil {
		return nil, err
	}
	return d.job(ctx, h, s, nil)
}

func (d *Driver) job(ctx context.Context, h *drivers.Host, s *state, o drivers.Options) (*job, error) {
	a, err := d.account(ctx, h, s.APIURL, o)
	if err != nil {
		return nil, err
	}
	return &job{account: a, h: h, s: s}, nil
}

func (j *job) save() error { return j.h.Record(j.s) }

func (j *job) logf(format string, args ...any) { logf(j.h, format, args...) }

func logf(h *drivers.Host, format string, args ...any) {
	if h.Log != nil {
		h.Log(format, args...)
	}
}

// storeID is the mark of the machine's store.
func storeID(h *drivers.Host) (string, error) {
	if h.StoreID == nil {
		return "", errors.New("the store has no mark")
	}
	id, err := h.StoreID()
	if err != nil {
		return "", fmt.Errorf("the store's mark: %w", err)
	}
	return id, nil
}
