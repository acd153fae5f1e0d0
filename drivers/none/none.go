// Package none is for engines that berth did not install and cannot log in to: all it knows of a machine is the engine's URL.
package none

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/getberth/berth/drivers"
)

// Name of the driver.
const Name = "none"

const flagURL = "url" // docker-machine's name

// defaultPort is the engine's, when the URL has none.
const defaultPort = 2376

// Driver implements drivers.Driver. Its words are docker-machine's.
type Driver struct{}

// New makes the driver.
func New() Driver { return Driver{} }

var (
	_ drivers.Killer    = Driver{}
	_ drivers.Restarter = Driver{}
	_ drivers.Renamer   = Driver{}
)

// stateVersion is the version of state that this driver writes. Records of the first berths have none, and are otherwise the same.
const stateVersion = 1

// state is the driver's record of a machine.
type state struct {
	Version int    `json:"version"`
	URL     string `json:"url"` // empty once the machine was let go
	Host    string `json:"host"`
	Port    int    `json:"port"`
}

// Flags implements drivers.Driver.
func (Driver) Flags() []drivers.Flag {
	return []drivers.Flag{{Name: flagURL, Usage: "URL of host when no driver is selected: tcp://HOST:PORT", Default: ""}}
}

// Check implements drivers.Driver.
func (Driver) Check(_ context.Context, _ *drivers.Host, o drivers.Options) error {
	_, err := parse(o.String(flagURL))
	return err
}

func parse(text string) (state, error) {
	if text == "" {
		return state{}, fmt.Errorf("--%s option is required when no driver is selected", flagURL)
	}
	u, err := url.Parse(text)
	if err != nil {
		return state{}, fmt.Errorf("--%s: %w", flagURL, err)
	}
	if u.Scheme != "tcp" || u.Hostname() == "" {
		return state{}, fmt.Errorf("--%s %s: only engines at tcp://HOST:PORT are supported", flagURL, text)
	}
	if u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return state{}, fmt.Errorf("--%s %s: must be tcp://HOST:PORT and no more", flagURL, text)
	}
	s := state{Version: stateVersion, Host: u.Hostname(), Port: defaultPort}
	if text := u.Port(); text != "" {
		if s.Port, err = strconv.Atoi(text); err != nil || s.Port < 1 || s.Port > 65535 {
			return state{}, fmt.Errorf("--%s: %q is not a port", flagURL, text)
		}
	}
	s.URL = "tcp://" + net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	return s, nil
}

// Create implements drivers.Driver: it makes a record and nothing else.
func (Driver) Create(_ context.Context, h *drivers.Host, o drivers.Options) error {
	s, err := parse(o.String(flagURL))
	if err != nil {
		return err
	}
	return h.Record(s)
}

// Endpoint implements drivers.Driver. It has no SSH.
func (Driver) Endpoint(h *drivers.Host) (drivers.Endpoint, error) {
	s, err := load(h)
	return drivers.Endpoint{Address: s.Host, EnginePort: s.Port}, err
}

// Why there is no machine.
var (
	errNoURL = errors.New("there is no URL yet")
	errLetGo = errors.New("the machine was let go")
)

func load(h *drivers.Host) (state, error) {
	var s state
	there, err := h.Recorded(Name, stateVersion, &s)
	switch {
	case err != nil:
		return s, err
	case !there:
		return s, errNoURL
	case s.URL == "":
		return s, errLetGo
	}
	return s, nil
}

// State implements drivers.Driver: nobody can be asked but the engine itself, so that the machine counts as running.
func (Driver) State(_ context.Context, h *drivers.Host) (drivers.State, error) {
	_, err := load(h)
	switch {
	case errors.Is(err, errNoURL), errors.Is(err, errLetGo):
		return drivers.NotFound, nil
	case err != nil:
		return drivers.Error, err
	}
	return drivers.Running, nil
}

// Remove implements drivers.Driver: it forgets the URL.
func (Driver) Remove(_ context.Context, h *drivers.Host) error {
	if len(h.State) == 0 {
		return nil
	}
	return h.Record(state{Version: stateVersion})
}

// Rename implements drivers.Renamer: nothing here has the name.
func (Driver) Rename(context.Context, *drivers.Host, string) error { return nil }

// Start implements drivers.Driver.
func (Driver) Start(context.Context, *drivers.Host) error {
	return errors.New("hosts without a driver cannot be started")
}

// Stop implements drivers.Driver.
func (Driver) Stop(context.Context, *drivers.Host) error {
	return errors.New("hosts without a driver cannot be stopped")
}

// Kill implements drivers.Killer.
func (Driver) Kill(context.Context, *drivers.Host) error {
	return errors.New("hosts without a driver cannot be killed")
}

// Restart implements drivers.Restarter.
func (Driver) Restart(context.Context, *drivers.Host) error {
	return errors.New("hosts without a driver cannot be restarted")
}
