package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/moby/moby/api/types/network"
)

const (
	recordVersion = 1
	maxRecord     = 16 << 20 // bytes; a container that publishes all ports of both protocols takes 10 MB
	recordSuffix  = ".json"
)

// networkRecord is the document of a network.
type networkRecord struct {
	Version    int                   `json:"version"`
	ID         string                `json:"id"`
	Name       string                `json:"name"`
	Driver     string                `json:"driver"`
	Created    time.Time             `json:"created"`
	Internal   bool                  `json:"internal,omitempty"`
	Attachable bool                  `json:"attachable,omitempty"`
	Options    map[string]string     `json:"options,omitempty"`
	Labels     map[string]string     `json:"labels,omitempty"`
	Bridge     string                `json:"bridge,omitempty"`  // the interface
	Adopted    bool                  `json:"adopted,omitempty"` // the interface was there before, and stays
	Subnet     netip.Prefix          `json:"subnet,omitzero"`
	Range      netip.Prefix          `json:"range,omitzero"`
	Gateway    netip.Addr            `json:"gateway,omitzero"`
	Reserved   map[string]netip.Addr `json:"reserved,omitempty"` // auxiliary addresses, never given out
}

// sandboxRecord is the document of a container's sandbox.
type sandboxRecord struct {
	Version   int              `json:"version"`
	Container string           `json:"container"`
	Path      string           `json:"path,omitempty"` // of the namespace; empty for a container in the host's
	Endpoints []endpointRecord `json:"endpoints,omitempty"`
	Ports     []portRecord     `json:"ports,omitempty"`
	Servers   []netip.Addr     `json:"servers,omitempty"` // resolvers that the container asked for
	Forward   bool             `json:"forward,omitempty"` // it needs 127.0.0.11 to reach the host's resolvers
}

// endpointRecord is a container's place in a network.
type endpointRecord struct {
	ID        string                    `json:"id"`
	Network   string                    `json:"network"`
	Serial    uint64                    `json:"serial"`           // grows with each endpoint that is made
	HostLink  string                    `json:"hostLink"`         // the veth on the bridge
	Link      string                    `json:"link"`             // eth0, eth1, … in the namespace
	Address   netip.Prefix              `json:"address,omitzero"` // with the length of the subnet
	Gateway   netip.Addr                `json:"gateway,omitzero"` // not valid in an internal network
	MAC       network.HardwareAddr      `json:"mac,omitempty"`
	Names     []string                  `json:"names,omitempty"`
	Wanted    *network.EndpointSettings `json:"wanted,omitempty"`
	Container string                    `json:"-"`
}

// portRecord is a port that is published.
type portRecord struct {
	Proto         network.IPProtocol `json:"proto"`
	HostIP        netip.Addr         `json:"hostIP"`
	HostPort      uint16             `json:"hostPort"`
	ContainerPort uint16             `json:"containerPort"`
}

// readRecord reads a document, and checks what a damaged one could do harm with.
func readRecord(path string, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return err
	}
	return parseRecord(data, into)
}

func parseRecord(data []byte, into any) error {
	if len(data) > maxRecord {
		return fmt.Errorf("longer than %d bytes", maxRecord)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return err
	}
	switch r := into.(type) {
	case *networkRecord:
		return r.check()
	case *sandboxRecord:
		return r.check()
	}
	return fmt.Errorf("unknown document %T", into)
}

func (r *networkRecord) check() error {
	if r.Version != recordVersion {
		return fmt.Errorf("version %d is not known", r.Version)
	}
	if r.ID == "" || r.Name == "" {
		return errors.New("it has no id or no name")
	}
	if r.Driver != driverBridge {
		return nil
	}
	if !r.Subnet.IsValid() || !r.Subnet.Addr().Is4() || !r.Subnet.Contains(r.Gateway) {
		return errors.New("it has no IPv4 subnet or no gateway")
	}
	if r.Range.IsValid() && (!r.Range.Addr().Is4() || !r.Subnet.Overlaps(r.Range) || r.Range.Bits() < r.Subnet.Bits()) {
		return errors.New("its range is not part of its subnet")
	}
	if _, err := parseOptions(r.Options); err != nil {
		return err
	}
	return checkLinkName(r.Bridge)
}

func (r *sandboxRecord) check() error {
	if r.Version != recordVersion {
		return fmt.Errorf("version %d is not known", r.Version)
	}
	if err := checkContainerID(r.Container); err != nil {
		return err
	}
	for _, ep := range r.Endpoints {
		if ep.Address.IsValid() && !ep.Address.Addr().Is4() {
			return fmt.Errorf("%s is not an IPv4 address", ep.Address)
		}
		if ep.HostLink != "" && !isHostLink(ep.HostLink) {
			return fmt.Errorf("%q is no name of a container's link", ep.HostLink)
		}
	}
	for _, p := range r.Ports {
		if !p.HostIP.IsValid() || p.Proto != network.TCP && p.Proto != network.UDP {
			return errors.New("it publishes a port that cannot be")
		}
	}
	return nil
}

// writeRecord replaces a document so that a crash leaves the old one or the new one.
func writeRecord(path string, record any) error {
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func removeRecord(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// recordNames lists the documents of a folder, without their suffix.
func recordNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), recordSuffix); ok && e.Type().IsRegular() && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	return names, nil
}

// checkContainerID makes sure that an id can be a file's name.
func checkContainerID(id string) error {
	ok := id != "" && len(id) <= 128 && id[0] != '.'
	for _, c := range []byte(id) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.')
	}
	if !ok {
		return fmt.Errorf("invalid container id %q", id)
	}
	return nil
}
